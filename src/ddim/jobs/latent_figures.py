"""Figures and animations of walks: the diffusion sequence, and paths between latents or images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddim.diffusion.interpolation import ddpm_path, slerp, slerp_grid
from ddim.diffusion.latents import decode, decoding, encode
from ddim.diffusion.model import Model
from ddim.diffusion.noise import normal
from ddim.diffusion.sampling import generate
from ddim.diffusion.schedule import Time
from ddim.diffusion.solvers import Solver, find
from ddim.errors import InputError
from ddim.images.selection import Selection
from ddim.jobs.latent_jobs import batches_of, data_grid
from ddim.jobs.sampling import bar
from ddim.plots import animations, sheets
from ddim.system.files import folder

MOMENTS = 100  # most frames in an animation of a sequence


@dataclass(frozen=True)
class Figure:
    """The files that were written."""

    figure: Path
    animation: Path


@torch.no_grad()
def diffusion_sequence(
    model: Model,
    out: str | Path,
    n: int = 8,
    frames: int = 10,
    steps: int = 50,
    spacing: str = "linear",
    times: Sequence[Time] | None = None,
    seed: int = 0,
    solver: str | Solver = "ddim",
    format: str = "gif",
    batch_size: int | None = None,
    progress: bool = False,
) -> Figure:
    """Draw how n images come out of noise: x_t above the predicted x̂_0, `frames` columns, and as an animation of every
    step, up to 100, in the folder `out`. The rest as for `ddim.sample`. Raises InputError.
    """
    if n < 1 or frames < 2:
        raise InputError(f"sequence needs at least 1 image and 2 frames; got {n} and {frames}")
    path = data_grid(model, steps, spacing, times)
    S, out = len(path) - 1, folder(Path(out))
    columns = moments(S, frames)
    kept = sorted({*columns, *moments(S, MOMENTS)})
    states: dict[int, list[Tensor]] = {i: [] for i in kept}  # step -> batches of (2, B, C, H, W): x_t and x̂_0 there
    batches = batches_of(model, n, batch_size)
    with bar("sampling", len(batches) * S, progress) as advance:
        for indices in batches:
            for i, moment in enumerate(generate(model, indices, path, seed=seed, solver=solver)):
                # The walk shows x after a step, beside the prediction made before it: x_t is read from the latter.
                if i in states:
                    x0, eps, level = moment.prediction
                    states[i].append(torch.stack([level.sqrt() * x0 + (1 - level).sqrt() * eps, x0]).cpu())
                advance()
            states[S].append(torch.stack([moment.x, moment.x]).cpu())
    seen = {i: torch.cat(parts, 1) for i, parts in states.items()}  # (2, n, C, H, W)
    rows = [torch.stack([seen[i][what, k] for i in columns]) for k in range(n) for what in (0, 1)]
    heads = [f"t={path[i]:g}" for i in columns]
    figure = sheets.save(sheets.rows(rows, ["x_t", "x0"] * n, heads=heads), out / "sequence.png")
    width = len(f"{path[0]:g}")
    drawn = [sheets.rows(list(seen[i]), [f"t={path[i]:0{width}g}", "x0"]) for i in kept]
    return Figure(figure, animations.animation(drawn, out / f"sequence.{format}"))


def moments(S: int, count: int) -> list[int]:
    """At most `count` of the states 0..S of a walk, evenly, with both ends."""
    count = min(count, S + 1)
    return sorted({round(i * S / (count - 1)) for i in range(count)})


@torch.no_grad()
def interpolation_figure(
    model: Model,
    out: str | Path,
    images: Sequence[str] = (),
    seeds: Sequence[int] = (0, 1),
    frames: int = 11,
    steps: int = 50,
    spacing: str = "linear",
    times: Sequence[Time] | None = None,
    solver: str | Solver | None = None,
    ddpm: bool = False,
    mix_at: Sequence[int] = (),
    seed: int = 0,
    format: str = "gif",
    batch_size: int | None = None,
    progress: bool = False,
) -> Figure:
    """Draw the path between two images or seeds, or the sheet between four, as figure and animation in `out`.

    images: image files, which are encoded first; without them the seeds are used.  frames: along each way.
    solver: of encoding and decoding; by default `exact` between images, so that the ends come back, else `ddim`.
    ddpm: the DDPM way between two ends, one row for each time of `mix_at`, with the noise of `seed`.
    Raises InputError.
    """
    path = data_grid(model, steps, spacing, times)
    chosen = Selection(images, model.shape) if images else None
    levels = mix_at or tuple(max(1, model.T * k // 8) for k in (1, 2, 4, 6, 8))
    check_ends(len(chosen) if chosen else len(seeds), frames, ddpm, mix_at, levels, model.T)
    out = folder(Path(out))
    ends = chosen.batch(range(len(chosen))).to(model.device) if chosen else None
    noises = torch.cat([normal(s, [0], model.shape) for s in seeds]).to(model.device)
    if ddpm:
        ends = decode(model, noises, times=path).clamp(-1, 1) if ends is None else ends
        rows, labels = ddpm_rows(model, ends, levels, frames, steps, seed, progress), [f"t = {t}" for t in levels]
    else:
        chosen_solver = find(solver or ("exact" if chosen else "ddim"))
        latents = encode(model, ends, times=path, solver=chosen_solver) if chosen else noises
        rows = sphere_rows(model, latents, path, frames, chosen_solver, batch_size, progress)
        labels = []
    sheet, heads = rows, []
    if chosen:  # the images themselves, at either side of what the model makes of them
        sides = [ends[:2].cpu()] * len(rows)
        if len(chosen) == 4:
            sides = [ends[:2].cpu(), *[torch.ones(2, *model.shape)] * (len(rows) - 2), ends[2:].cpu()]
        sheet = [torch.cat([side[:1], row, side[1:]]) for row, side in zip(rows, sides, strict=True)]
        heads = ["real", *[""] * frames, "real"]
    figure = sheets.save(sheets.rows(sheet, labels, heads=heads), out / "interpolate.png")
    scale = sheets.enlargement(max(model.shape[1:]), 128)
    drawn = [sheets.rows([row[k : k + 1] for row in rows], labels, scale) for k in range(frames)]
    return Figure(figure, animations.animation(drawn, out / f"interpolate.{format}", back=True))


def check_ends(count: int, frames: int, ddpm: bool, mix_at: Sequence[int], levels: Sequence[int], T: int) -> None:
    """Raise InputError where a path cannot be drawn."""
    if count not in (2, 4) or (ddpm and count != 2):
        raise InputError(f"interpolate goes between 2 {'' if ddpm else 'or 4 '}ends; got {count}")
    if frames < 2:
        raise InputError(f"frames must be at least 2; got {frames}")
    if mix_at and not ddpm:
        raise InputError("--time belongs to the DDPM way; pass --ddpm too")
    if outside := [t for t in levels if not 1 <= t <= T]:
        raise InputError(f"time must be from 1 to {T}; got {outside[0]}")


def sphere_rows(model: Model, latents, path, frames: int, solver: Solver, batch_size, progress: bool) -> list[Tensor]:
    """Rows of images (frames, C, H, W) along the sphere between two latents, or over the sheet between four."""
    parts = latents if isinstance(latents, tuple) else (latents,)  # each (2, C, H, W), or (4, C, H, W)
    if len(parts[0]) == 2:
        fractions = torch.linspace(0, 1, frames)
        flat = [slerp(z[:1], z[1:], fractions) for z in parts]
    else:
        flat = [slerp_grid(z, frames, frames).flatten(0, 1) for z in parts]
    batches = batches_of(model, len(flat[0]), batch_size)
    made = []
    with bar("decoding", len(batches) * (len(path) - 1), progress) as advance:
        for batch in batches:
            z = tuple(part[batch.start : batch.stop] for part in flat)
            walk = decoding(model, z if len(z) == 2 else z[0], path, solver if solver.name != "implicit" else "ddim")
            for moment in walk:
                advance()
            made.append(moment.x.to(z[0].dtype).cpu())
    return list(torch.cat(made).split(frames))


def ddpm_rows(model: Model, ends: Tensor, levels, frames: int, steps: int, seed: int, progress: bool) -> list[Tensor]:
    """One row of images (frames, C, H, W) a time in `levels`."""
    rows = []
    with bar("denoising", sum(min(steps, t) for t in levels), progress) as advance:
        for t in levels:
            for moment in ddpm_path(model, ends[:1], ends[1:], t, frames, steps, seed):
                advance()
            rows.append(moment.x.cpu())
    return rows
