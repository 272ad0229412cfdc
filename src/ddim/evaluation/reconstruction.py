"""What is lost between images, their latents and back: the paper's table 2."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ddim.diffusion.latents import check_pair_grid, decoding, encoding, latents_of
from ddim.diffusion.model import Model, levels
from ddim.diffusion.schedule import grid
from ddim.diffusion.solvers import Exact, Implicit, Solver, find
from ddim.errors import listed
from ddim.evaluation.published import data_set
from ddim.evaluation.records import Record
from ddim.images.selection import Selection
from ddim.jobs.bars import bar
from ddim.jobs.cost import calls_of, foretell
from ddim.jobs.latent_jobs import batches_of
from ddim.plots import sheets
from ddim.system.files import folder
from ddim.system.json import write_json

STEPS = (10, 20, 50, 100)  # the paper's go on to 1000, which takes ten times as long
SHOWN = 12  # images in the figure


@torch.no_grad()
def reconstruct(
    model: Model,
    images: Sequence[str],
    out: str | Path,
    steps: Sequence[int] = (),
    n: int | None = None,
    spacing: str = "linear",
    solver: str | Solver = "ddim",
    batch_size: int | None = None,
    skip_broken: bool = False,
    progress: bool = False,
) -> Record:
    """Encode and decode images with each number of steps; draw them, and measure, into the folder `out`.

    images: files, folders, .parquet files, Hub ids; the first n of them, or all.  steps: by default STEPS.
    Returns what reconstruct.json holds: under `rows`, for each S, `mse` on [0, 1], the latents' `mean` and
    `deviation`, and the largest `residual` of implicit steps. Raises InputError.
    """
    levels(model)
    solver = find(solver)
    back = find("ddim") if isinstance(solver, Implicit) else solver  # whose inverse is DDIM's step
    every = listed("steps", steps) or [S for S in STEPS if S <= model.T]
    grids = {S: grid(levels(model), S, spacing) for S in every}
    for times in grids.values() if isinstance(solver, Exact) else ():
        check_pair_grid(times)
    chosen = Selection(images, model.shape, skip_broken).outside(out).first(n)
    n = len(chosen)
    batches, out = batches_of(model, n, batch_size), folder(Path(out))
    sums = {S: torch.zeros(3, dtype=torch.float64) for S in every}  # squared errors, latents, squared latents
    worst, shown, originals = dict.fromkeys(every, 0.0), {S: [] for S in every}, []
    total = len(batches) * sum(2 * (len(times) - 1) for times in grids.values())
    calls = sum(calls_of(how, times) for times in grids.values() for how in (solver, back))
    foretell(model, len(batches[0]), len(batches) * calls)
    with bar("reconstructing", total, progress) as advance:
        for indices in batches:
            x = chosen.batch(indices).to(model.device)  # (B, C, H, W)
            room = max(0, SHOWN - indices.start)
            originals.append(x[:room].cpu())
            for S, times in grids.items():
                for moment in encoding(model, x, times, solver):
                    advance()
                if isinstance(solver, Implicit):
                    worst[S] = max(worst[S], moment.state.max().item())
                z = moment.x.to(x.dtype).cpu().double()
                latents = latents_of(moment, x)
                for moment in decoding(model, latents, times, back):
                    advance()
                image = moment.x.to(x.dtype)
                error = ((image.clamp(-1, 1) - x) / 2).cpu().double().square().sum()  # on [0, 1]
                sums[S] += torch.stack([error, z.sum(), z.square().sum()])
                shown[S].append(image[:room].cpu())
    rows = [row(S, sums[S] / (n * x[0].numel()), worst[S]) for S in every]
    drawn = [torch.cat(originals), *(torch.cat(shown[S]) for S in every)]
    figure = sheets.save(sheets.rows(drawn, ["original", *(f"S = {S}" for S in every)]), out / "reconstruct.png")
    found = {
        **model.identity,
        **{"n": n, "spacing": spacing, "solver": solver.name, "paper": paper_of(images, chosen), "rows": rows},
    }
    write_json(out / "reconstruct.json", found)
    return Record(found, figure=str(figure), file=str(out / "reconstruct.json"))


def row(S: int, means: torch.Tensor, residual: float) -> dict:
    """From the means of squared errors, of latents and of their squares."""
    mse, mean, square = means.tolist()
    return {"steps": S, "mse": mse, "mean": mean, "deviation": max(square - mean**2, 0) ** 0.5, "residual": residual}


def paper_of(sources: Sequence[str], chosen: Selection) -> str | None:
    """The paper's data set, where its table 2 is of these images: CIFAR-10's test images."""
    test = len(sources) == 1 and sources[0].endswith((":test", "test_batch.bin"))
    return data_set(sources[0], chosen.parts[0], "test") if test else None
