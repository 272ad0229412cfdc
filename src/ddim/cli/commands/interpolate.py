"""ddim interpolate: between seeds or real images, DDIM's way or DDPM's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddim.cli.classes import EndClasses
from ddim.cli.models import check_first, load_model
from ddim.cli.options import (
    EXACT,
    Clipping,
    Grid,
    ImageNames,
    Machine,
    ModelName,
    SolverName,
    Spacing,
    one_of,
    parse,
)
from ddim.system.messages import say

EXAMPLES = (
    "ddim interpolate digits --seeds 0 1 2 3              # a sheet between four seeds",
    "ddim interpolate cifar10 a.png b.png --steps 100     # between two images",
)


@dataclass(frozen=True, kw_only=True)
class PathGrid(Grid):
    """The times that are visited, from T (noise) to 0 (the image)."""

    spacing: Spacing | None = None
    """How the steps are spread over the times from T to 0; by default quadratic between images, else linear."""


@dataclass(frozen=True, kw_only=True)
class Interpolate:
    """Two ends make a row, four make a sheet."""

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    images: ImageNames = ()
    """Two or four real images, which are encoded first; by default the seeds are used."""
    seeds: tuple[int, ...] = (0, 1)
    """Two seeds for a row, four for a sheet with these at its corners."""
    numbers: tuple[int, ...] = ()
    """Which image of each seed, as ddim sample counts them; by default number 0."""
    frames: int = 11
    """Images along each way, ends included."""
    grid: PathGrid = PathGrid()
    solver: SolverName | None = None
    """How images are encoded and decoded; by default exact between real images, so that the ends come back as they
    were, and ddim between seeds."""
    classes: EndClasses = EndClasses()
    ddpm: bool = False
    """The DDPM way: diffuse two images to a time, mix them linearly, denoise from there with η = 1."""
    time: tuple[int, ...] = ()
    """Times to mix at with --ddpm, from 1 to T, a row for each; by default 1/8, 1/4, 1/2, 3/4 of T, and T."""
    seed: int = 0
    """Seed of the noise of --ddpm."""
    clipping: Clipping = Clipping()
    format: Literal["gif", "webp"] = "gif"
    """File format of the animation."""
    out: Path = Path("interpolate")
    """Folder to write."""
    machine: Machine = EXACT


def main(args: Sequence[str]) -> None:
    o = parse(Interpolate, "interpolate", args)
    if o.images:
        one_of([*args, "IMAGE"], "IMAGE", "--seeds", "--numbers")
    from ddim.jobs.latent_figures import interpolation_figure

    check_first(o.model, o.out / "interpolate.json", o.classes.label)
    model, g = load_model(o.model, o.machine), o.grid
    made = interpolation_figure(
        model, o.out, o.images, o.seeds, o.frames, g.steps, g.spacing, g.times, o.solver, o.ddpm, o.time, o.seed,
        o.clipping.value(), o.format, o.machine.batch_size, True, o.classes.of_ends(), o.classes.value(), o.numbers,
    )  # fmt: skip
    say(f"figure: {made.figure}", f"animation: {made.animation}")
