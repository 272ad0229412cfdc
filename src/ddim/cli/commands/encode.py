"""ddim encode: images to latents."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddim.cli.classes import Classes
from ddim.cli.models import check_first, load_model
from ddim.cli.options import EXACT, NEED_IMAGES, Grid, ImageNames, Machine, ModelName, SolverName, parse
from ddim.cli.tolerance import Tolerance
from ddim.system.messages import counted, say

EXAMPLES = (
    "ddim encode digits digits --out latents.safetensors  # the embedded digits",
    "ddim encode cifar10 cat.png my-images/ --solver exact",
)


@dataclass(frozen=True, kw_only=True)
class Encode:
    """`ddim decode` turns them back into images."""

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    images: ImageNames = field(default=(), metadata=NEED_IMAGES)
    """Image files, folders, .parquet files or Hub ids; `digits` for the embedded ones."""
    n: int | None = None
    """Take the first n images only."""
    grid: Grid = Grid(steps=100)
    solver: SolverName = "ddim"
    """ddim: the paper's way. implicit: solve for the step that sampling undoes, in a few evaluations each. exact: a
    pair of latents from which the images come back to rounding. heun, unipc: of higher order."""
    tolerance: Tolerance = Tolerance()
    classes: Classes = Classes()
    skip_broken: bool = False
    """Leave images out that cannot be read, instead of stopping."""
    out: Path = Path("latents.safetensors")
    """File to write."""
    machine: Machine = EXACT


def main(args: Sequence[str]) -> None:
    o = parse(Encode, "encode", args)
    solver = o.tolerance.solver(None if o.solver == "ddim" else o.solver) or "ddim"
    from ddim.jobs.latent_jobs import encode_files

    check_first(o.model, labels=(o.classes.label,))
    model, g = load_model(o.model, o.machine), o.grid
    if o.tolerance.tolerance is not None and g == Grid(steps=100):
        g = Grid(steps=10)  # the steps between are its own
    made = encode_files(
        model, o.images, o.out, g.steps, g.spacing, g.times, solver, o.machine.batch_size, o.skip_broken, True,
        o.classes.label, o.classes.value(), o.n,
    )  # fmt: skip
    say(f"{counted(made.n, 'latent')}: {made.file}")
    say(f"mean {made.mean:.3f}, standard deviation {made.deviation:.3f} (N(0, 1) has 0 and 1)")
    if made.adaptive:
        say(made.adaptive)
    if o.solver == "implicit":
        say(f"largest residual of a step: {made.residual:.2g}")
