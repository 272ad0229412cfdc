"""ddim consistency: one noise, different numbers of steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddim.cli.models import load_model
from ddim.cli.options import EXACT, Clipping, Machine, ModelName, SolverName, Spacing, parse
from ddim.system.messages import say

EXAMPLES = (
    "ddim consistency digits                              # 10, 20, 50, 100 and 1000 steps",
    "ddim consistency cifar10 --steps 5 10 20 --n 16 --solver heun",
)


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """A table of distances to the images of the most steps, and a figure of the images."""

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    steps: tuple[int, ...] = ()
    """Numbers of steps; the others are compared with the largest. By default 10 20 50 100 and T."""
    n: int = 64
    """Images to measure; the figure shows the first 12."""
    spacing: Spacing = "linear"
    """How the steps are spread over the times from T to 0."""
    solver: SolverName = "ddim"
    """How each step is taken."""
    seed: int = 0
    """Seed of the noise: image k of a seed is the same whatever n and the batch size."""
    clipping: Clipping = Clipping()
    out: Path = Path("consistency")
    """Folder to write."""
    machine: Machine = EXACT


def main(args: Sequence[str]) -> None:
    o = parse(Consistency, "consistency", args)
    from rich.console import Console
    from rich.table import Table

    from ddim.evaluation.step_consistency import consistency

    model = load_model(o.model, o.machine)
    found = consistency(
        model, o.out, steps=o.steps, n=o.n, spacing=o.spacing, seed=o.seed, clip=o.clipping.value(), solver=o.solver,
        batch_size=o.machine.batch_size, progress=True,
    )  # fmt: skip
    unrelated, title = found["unrelated"], f"{o.n} images, same starting noise"
    table = Table("S", f"distance to S = {found['longest']}", "of unrelated", title=title)
    for row in found["rows"]:
        share = f"{row['distance'] / unrelated:.1%}" if unrelated else ""
        table.add_row(str(row["steps"]), f"{row['distance']:.4f}", share)
    table.add_row("unrelated images", f"{unrelated:.4f}", "100%")
    Console().print(table)
    say("distance: root mean square difference of pixels on [0, 1], mean over the images")
    say(f"figure: {found['figure']}", f"numbers: {found['file']}")
