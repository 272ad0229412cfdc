"""ddim reconstruct: what is lost between images, their latents and back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddim.cli.models import load_model
from ddim.cli.options import EXACT, NEED_IMAGES, ImageNames, Machine, ModelName, SolverName, Spacing, parse
from ddim.cli.records import AsJson, print_json
from ddim.system.messages import say

EXAMPLES = (
    "ddim reconstruct digits digits --n 64 --steps 10 50 100",
    "ddim reconstruct cifar10 my-images/ --solver implicit",
)


@dataclass(frozen=True, kw_only=True)
class Reconstruct:
    """A table of errors by number of steps, and a figure of the images."""

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    images: ImageNames = field(default=(), metadata=NEED_IMAGES)
    """Image files, folders, .parquet files or Hub ids; `digits` for the embedded ones."""
    steps: tuple[int, ...] = ()
    """Numbers of steps; by default 10 20 50 100. The paper's go on with 200 500 1000, which take ten times as long."""
    n: int | None = None
    """Take the first n images only."""
    spacing: Spacing = "linear"
    """How the steps are spread over the times from T to 0."""
    solver: SolverName = "ddim"
    """How images are encoded and decoded; see ddim encode --help."""
    skip_broken: bool = False
    """Leave images out that cannot be read, instead of stopping."""
    report: AsJson = AsJson()
    out: Path = Path("reconstruct")
    """Folder to write."""
    machine: Machine = EXACT


def main(args: Sequence[str]) -> None:
    o = parse(Reconstruct, "reconstruct", args)
    from ddim.evaluation.reconstruction import reconstruct

    model = load_model(o.model, o.machine, show=not o.report.json)
    found = reconstruct(
        model, o.images, o.out, steps=o.steps, n=o.n, spacing=o.spacing, solver=o.solver,
        batch_size=o.machine.batch_size, skip_broken=o.skip_broken, progress=True,
    )  # fmt: skip
    print_json(found) if o.report.json else show(found)


def show(found: dict) -> None:
    """The table in the terminal; the paper's column only where its table is of these images."""
    from rich.console import Console
    from rich.table import Table

    from ddim.evaluation.published import RECONSTRUCTION

    paper, implicit = found["paper"], found["solver"] == "implicit"
    columns = ["S", "MSE on [0, 1]", *([f"paper, {paper}"] if paper else []), "latents' mean", "deviation"]
    table = Table(*columns, title=f"{found['n']} images, encoded and decoded by {found['solver']}")
    if implicit:
        table.add_column("residual")
    for row in found["rows"]:
        cells = [
            str(row["steps"]),
            f"{row['mse']:.2g}",
            *([f"{RECONSTRUCTION.get(row['steps'], '')}"] if paper else []),
        ]
        cells += [f"{row['mean']:.3f}", f"{row['deviation']:.3f}", *([f"{row['residual']:.2g}"] if implicit else [])]
        table.add_row(*cells)
    Console().print(table)
    say(f"figure: {found['figure']}", f"numbers: {found['file']}")
