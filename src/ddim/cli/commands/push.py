"""ddim push: a model on the Hub, with a card."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.cli.options import ModelName, parse
from ddim.system.messages import say

EXAMPLES = (
    "ddim push runs/mine user/my-model",
    "ddim push runs/mine user/my-model --private --metrics evaluations/mine/table.md",
)


@dataclass(frozen=True)
class Push:
    """What is uploaded: weights, settings, and a card with samples and with what `ddim evaluate` measured."""

    model: ModelName
    """A run or model folder, or a bundled name."""
    hub_id: Annotated[str, Positional, arg(metavar="USER/NAME")]
    """The repository on the Hub; it is made where there is none."""
    private: bool = False
    """Make a private repository, which others cannot see."""
    metrics: Path | None = None
    """A table.md of `ddim evaluate` for the card; by default the one in the model's folder, if there is one."""
    steps: int | None = None
    """Number of steps of each sample on the card; by default as in ddim sample."""
    seed: int = 0
    """Seed of the samples on the card."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps…; by default a GPU where there is one."""


def main(args: Sequence[str]) -> None:
    o = parse(Push, "push", args)
    from ddim.checkpoints.loading import load
    from ddim.jobs.publishing import check_hub_id, push

    check_hub_id(o.hub_id)
    say(f"model: {push(load(o.model, o.device), o.hub_id, o.model, o.private, o.metrics, o.steps, o.seed, True)}")
