"""ddim latents: whether latents of images are the noise that the theory says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddim.cli.models import load_model
from ddim.cli.options import EXACT, NEED_IMAGES, ImageNames, Machine, ModelName, SolverName, Spacing, parse
from ddim.system.messages import say

EXAMPLES = (
    "ddim latents digits digits --n 500",
    "ddim latents cifar10 test.parquet --n 200 --steps 20 100 --solver ddim heun unipc",
)

COLUMNS = {  # of the table: what a column is called, and what it holds; the second in brackets
    "‖z‖/√D\n(deviation)": ("norm", "norm_deviation"),
    "means": ("mean",),
    "deviations\n(uneven)": ("deviation", "uneven"),
    "skewness": ("skewness",),
    "kurtosis\n− 3": ("kurtosis",),
    "neighbours": ("neighbours",),
}


@dataclass(frozen=True, kw_only=True)
class Latents:
    """Norm, moments, correlation of neighbouring pixels, and quantiles, beside those of noise."""

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    images: ImageNames = field(default=(), metadata=NEED_IMAGES)
    """Image files, folders, .parquet files or Hub ids; `digits` for the embedded ones."""
    steps: tuple[int, ...] = (10, 50, 200)
    """Numbers of steps, one or several."""
    solver: tuple[SolverName, ...] = ("ddim", "unipc")
    """How images are encoded, one way or several; see ddim encode --help."""
    n: int | None = None
    """Take the first n images only."""
    spacing: Spacing = "linear"
    """How the steps are spread over the times from T to 0."""
    seed: int = 0
    """Seed of the noise that they are compared with."""
    skip_broken: bool = False
    """Leave images out that cannot be read, instead of stopping."""
    out: Path = Path("latents-law")
    """Folder to write: latents.json and latents.png."""
    machine: Machine = EXACT


def main(args: Sequence[str]) -> None:
    o = parse(Latents, "latents", args)
    from ddim.evaluation.latent_law import latents_law

    show(latents_law(
        load_model(o.model, o.machine), o.images, o.out, o.steps, o.solver, o.spacing, o.n, o.seed,
        o.machine.batch_size, o.skip_broken, progress=True,
    ))  # fmt: skip


def show(found: dict) -> None:
    """The table in the terminal."""
    from rich.console import Console
    from rich.table import Table

    title = f"latents of {found['n']} images of {found['dimensions']} values"
    table = Table("by", title=title, box=None, pad_edge=False)  # narrow: 80 columns hold it
    for head in ("S", *COLUMNS):
        table.add_column(head, justify="right", no_wrap=True)
    for row in found["rows"]:
        values = [
            f"{row[name]:.3f}" + "".join(f" ({row[other]:.3f})" for other in beside)
            for name, *beside in COLUMNS.values()
        ]
        table.add_row(row["solver"], str(row["steps"] or ""), *values)
    Console().print(table)
    say(f"figure: {found['figure']}", f"numbers: {found['file']}")
