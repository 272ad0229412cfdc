"""One noise, different numbers of steps: the paper's figure 5, with a number."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ddim.diffusion.course import course
from ddim.diffusion.model import Model, levels
from ddim.diffusion.noise import normal
from ddim.diffusion.sampling import generate
from ddim.diffusion.solvers import Solver
from ddim.errors import InputError, check_whole, listed
from ddim.evaluation.records import Record
from ddim.jobs.bars import bar
from ddim.jobs.latent_jobs import batches_of
from ddim.plots import sheets
from ddim.system.files import folder
from ddim.system.json import write_json

SHOWN = 12  # images in the figure


@torch.no_grad()
def consistency(
    model: Model,
    out: str | Path,
    steps: Sequence[int] = (),
    n: int = 64,
    spacing: str = "linear",
    seed: int = 0,
    clip=None,
    solver: str | Solver = "ddim",
    batch_size: int | None = None,
    progress: bool = False,
) -> Record:
    """Sample the same n noises with several numbers of steps; draw the images, and measure how far apart they are.

    steps: the most are what the others are compared with; by default 10, 20, 50, 100 and every level.
    Returns what consistency.json holds: `unrelated`, the distance between different images, and under `rows` each S
    with its `distance`, the root mean square difference of pixels on [0, 1], mean over images. Raises InputError.
    """
    levels(model), check_whole("n", n, 2)
    for S in listed("steps", steps):
        check_whole("steps", S)
    every = sorted(set(steps or [*(S for S in (10, 20, 50, 100) if S < model.T), model.T]))
    if len(every) < 2:
        raise InputError(
            f"consistency compares two numbers of steps or more; got {every[0]} alone: name more by --steps"
        )
    courses = {S: course(model, solver, S, spacing) for S in every}
    if len({times[0] for times, _ in courses.values()}) > 1:
        tops = ", ".join(f"{times[0]} for S = {S}" for S, (times, _) in courses.items())
        raise InputError(f"{spacing} grids start at different times ({tops}); use linear or quadratic")
    out, batches = folder(Path(out)), batches_of(model, n, batch_size)
    parts: dict[int, list[Tensor]] = {S: [] for S in every}
    with bar("sampling", len(batches) * sum(len(t) - 1 for t, _ in courses.values()), progress) as advance:
        for indices in batches:
            x = normal(seed, indices, model.shape)
            for S, (times, how) in courses.items():
                for moment in generate(model, indices, times, x=x, clip=clip, solver=how):
                    advance()
                parts[S].append(moment.x.clamp(-1, 1).float().cpu())
    made = {S: torch.cat(images) for S, images in parts.items()}  # (n, C, H, W) each
    longest = made[every[-1]]
    rows = [{"steps": S, "distance": distance(made[S], longest)} for S in every[:-1]]
    figure = sheets.rows([made[S][:SHOWN] for S in every], [f"S = {S}" for S in every])
    found = {
        **model.identity,
        **{"n": n, "seed": seed, "spacing": spacing, "solver": courses[every[-1]][1].name, "longest": every[-1]},
        # Image k against image k + 1 of the longest: made of independent noises, so unrelated.
        **{"unrelated": distance(longest, longest.roll(1, 0)), "rows": rows},
    }
    write_json(out / "consistency.json", found)
    figure = sheets.save(figure, out / "consistency.png")
    return Record(found, figure=str(figure), file=str(out / "consistency.json"))


def distance(a: Tensor, b: Tensor) -> float:
    """Mean over the images (N, C, H, W) of the root mean square difference of their pixels, on [0, 1]."""
    return ((a - b) / 2).flatten(1).square().mean(1).sqrt().mean().item()
