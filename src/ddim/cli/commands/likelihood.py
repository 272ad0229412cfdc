"""ddim likelihood: bits per dimension of images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ddim.cli.models import check_first, load_model
from ddim.cli.options import EXACT, NEED_IMAGES, ImageNames, Machine, ModelName, SolverName, Spacing, parse
from ddim.cli.records import AsJson, print_json
from ddim.system.messages import say

EXAMPLES = (
    "ddim likelihood digits digits --n 64                # the variational bound, over all levels",
    "ddim likelihood cifar10 test.parquet --n 100 --method ode --steps 50 --json",
)


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """How probable images are to a model: a line with their bits per dimension, of which less is better.

    The same command continues where it was stopped.
    """

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    images: ImageNames = field(default=(), metadata=NEED_IMAGES)
    """Image files of 8 bits, folders, .parquet files or Hub ids; `digits` for the embedded ones."""
    method: Literal["vlb", "ode"] = "vlb"
    """vlb: the variational bound, with a figure of its terms over t. ode: the change of variables along DDIM's ODE from
    t = 1 on, of the images with uniform noise within their values."""
    steps: int | None = None
    """Noise levels of vlb, by default all; intervals of ode, by default 200."""
    spacing: Spacing | None = None
    """How these are spread; by default linear for vlb, log-snr for ode."""
    variance: Literal["small", "large", "learned"] | None = None
    """vlb: variance of each step, as in ddim sample; by default what the network learned, else small."""
    clip: Literal["on", "off"] = "on"
    """vlb: whether to clip each predicted image to [-1, 1]."""
    solver: SolverName = "unipc"
    """ode: how each step is taken, by a solver without noise."""
    probes: int | None = None
    """ode: random vectors an image that estimate the divergence; 0 for the exact one, which costs an evaluation a
    dimension. By default 0 up to 256 dimensions, else 2."""
    seed: int = 0
    """Seed of all noise: image k of a seed is the same whatever n and the batch size."""
    label: str | None = None
    """Their class, for a model that knows classes, by its name or number; by default none."""
    n: int | None = None
    """Take the first n images only."""
    skip_broken: bool = False
    """Leave images out that cannot be read, instead of stopping."""
    report: AsJson = AsJson()
    out: Path | None = None
    """Folder to write: likelihood.json, and terms.png of vlb; by default one in likelihood/ named after the model, the
    method and the steps."""
    machine: Machine = EXACT

    def folder(self) -> Path:
        steps = f"-S{self.steps}" if self.steps else ""
        return self.out or Path("likelihood") / f"{Path(self.model).name}-{self.method}{steps}"


def main(args: Sequence[str]) -> None:
    o = parse(Likelihood, "likelihood", args)
    from ddim.evaluation.likelihood_table import lines, measure_likelihood

    check_first(o.model, o.folder() / "settings.json", (o.label,))
    model = load_model(o.model, o.machine, show=not o.report.json)
    found = measure_likelihood(
        model, o.images, o.folder(), o.method, o.steps, o.spacing, o.solver, o.variance, o.clip == "on", o.probes, True,
        o.seed, o.label, o.n, o.machine.batch_size, o.skip_broken, progress=True,
    )  # fmt: skip
    if o.report.json:
        print_json(found)
    else:
        say(*lines(found), f"numbers: {found['file']}")
