"""ddim sequence: how images come out of noise."""

from collections.abc import Sequence as Args
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddim.cli.classes import Classes
from ddim.cli.models import check_first, load_model
from ddim.cli.options import Clipping, Grid, Machine, ModelName, SolverName, parse
from ddim.system.messages import say

EXAMPLES = (
    "ddim sequence digits",
    "ddim sequence cifar10 --n 4 --steps 20 --format webp",
)


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """A figure with two rows for each image, x_t and the predicted image x̂_0; and an animation."""

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    n: int = 8
    """How many images."""
    frames: int = 10
    """Columns of the figure. The animation shows all steps, or 100 of them."""
    grid: Grid = Grid()
    solver: SolverName = "ddim"
    """How each step is taken."""
    classes: Classes = Classes()
    seed: int = 0
    """Seed of the noise: image k of a seed is the same whatever n and the batch size."""
    clipping: Clipping = Clipping()
    format: Literal["gif", "webp"] = "gif"
    """File format of the animation."""
    out: Path = Path("sequence")
    """Folder to write."""
    machine: Machine = Machine()


def main(args: Args[str]) -> None:
    o = parse(Sequence, "sequence", args)
    from ddim.jobs.latent_figures import diffusion_sequence

    check_first(o.model, labels=(o.classes.label,))
    model, g = load_model(o.model, o.machine), o.grid
    made = diffusion_sequence(
        model, o.out, o.n, o.frames, g.steps, g.spacing, g.times, o.seed, o.clipping.value(), o.solver, o.format,
        o.machine.batch_size, True, o.classes.label, o.classes.value(),
    )  # fmt: skip
    say(f"x_t above the predicted x0: {made.figure}", f"animation: {made.animation}")
