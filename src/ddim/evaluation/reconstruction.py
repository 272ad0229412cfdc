"""What is lost between images, their latents and back: the paper's table 2."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ddim.diffusion.latents import check_pair_grid, decoding, encoding, latents_of
from ddim.diffusion.model import Model, levels
from ddim.diffusion.schedule import grid
from ddim.diffusion.solvers import Exact, Implicit, Solver, find
from ddim.diffusion.walk import Moment
from ddim.errors import listed
from ddim.evaluation.published import data_set
from ddim.evaluation.records import Record
from ddim.images.selection import Selection
from ddim.jobs.bars import bar
from ddim.jobs.cost import calls_of, foretell
from ddim.jobs.latent_jobs import batches_of
from ddim.jobs.unfinished import unfinished
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
    chosen, out = Selection(images, model.shape, skip_broken).outside(out).first(n), folder(Path(out))
    n, batches = len(chosen), batches_of(model, len(chosen), batch_size)
    sums = {S: torch.zeros(3, dtype=torch.float64) for S in every}  # squared errors, latents, squared latents
    worst, shown, originals = dict.fromkeys(every, 0.0), {S: [] for S in every}, []
    total = len(batches) * sum(2 * (len(times) - 1) for times in grids.values())
    calls = sum(calls_of(how, times) for times in grids.values() for how in (solver, back))
    foretell(model, len(batches[0]), len(batches) * calls)
    settings = model.identity | {"spacing": spacing, "solver": solver.name}
    with unfinished(out / "unfinished", settings) as done, bar("reconstructing", total, progress) as advance:
        for indices in batches:
            x = chosen.batch(indices).to(model.device)  # (B, C, H, W)
            room = max(0, SHOWN - indices.start)
            originals.append(x[:room].cpu())
            for S, times in grids.items():
                file = done.file(indices, x, f"S = {S}")
                if (parts := done.read(file)) is None:
                    for there in encoding(model, x, times, solver):
                        advance()
                    for moment in decoding(model, latents_of(there, x), times, back):
                        advance()
                    parts = done.keep(file, compared(x, there, moment.x.to(x.dtype), solver))
                else:
                    advance(2 * (len(times) - 1))
                worst[S] = max(worst[S], parts["residual"].item())
                sums[S] += parts["sums"]
                shown[S].append(parts["images"][:room])
    rows = [row(S, sums[S] / (n * x[0].numel()), worst[S]) for S in every]
    drawn = [torch.cat(originals), *(torch.cat(shown[S]) for S in every)]
    figure = sheets.save(sheets.rows(drawn, ["original", *(f"S = {S}" for S in every)]), out / "reconstruct.png")
    found = {
        **model.identity,
        **{"n": n, "spacing": spacing, "solver": solver.name, "paper": paper_of(chosen), "rows": rows},
    }
    write_json(out / "reconstruct.json", found)
    return Record(found, figure=str(figure), file=str(out / "reconstruct.json"))


def compared(x: torch.Tensor, there: Moment, images: torch.Tensor, solver: Solver) -> dict[str, torch.Tensor]:
    """Of images x (B, C, H, W), the end of their encoding and the images that come back: as many as may be shown; the
    sums of squared errors on [0, 1], of latents and of squared latents; the largest residual of implicit steps."""
    z = there.x.to(x.dtype).cpu().double()
    error = ((images.clamp(-1, 1) - x) / 2).cpu().double().square().sum()
    residual = there.state.max() if isinstance(solver, Implicit) else torch.zeros(())
    sums = torch.stack([error, z.sum(), z.square().sum()])
    return {"images": images[:SHOWN], "sums": sums, "residual": residual}


def row(S: int, means: torch.Tensor, residual: float) -> dict:
    """From the means of squared errors, of latents and of their squares."""
    mse, mean, square = means.tolist()
    return {"steps": S, "mse": mse, "mean": mean, "deviation": max(square - mean**2, 0) ** 0.5, "residual": residual}


def paper_of(chosen: Selection) -> str | None:
    """The paper's data set, where its table 2 is of these images: CIFAR-10's test images."""
    sources = chosen.sources
    test = len(sources) == 1 and sources[0].endswith((":test", "test_batch.bin"))
    return data_set(sources[0], chosen.parts[0], "test") if test else None
