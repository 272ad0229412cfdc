"""ddim interpolate: between seeds or real pictures, DDIM's way or DDPM's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddim.cli.commands import (
    Counted,
    Method,
    OnGrid,
    PictureNames,
    Precision,
    batches_of,
    data_grid,
    one_of,
    opened,
    parse,
    to_latents,
    to_pictures,
)
from ddim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Interpolate(OnGrid):
    """Interpolate between two seeds or two pictures, or draw the grid between four of them."""

    pictures: PictureNames = ()
    """Two or four real pictures, which are encoded first; by default the seeds are used."""
    seeds: tuple[int, ...] = (0, 1)
    """Two seeds for a row, four for a grid with these at its corners."""
    frames: int = 11
    """Pictures along each way, ends included."""
    method: Method = "exact"
    """How real pictures are encoded: see ddim encode --help. By exact, the ends come back as they were."""
    ddpm: bool = False
    """The DDPM way: diffuse two pictures to a time, mix them linearly, denoise from there with η = 1."""
    time: tuple[int, ...] = ()
    """Times to mix at, one row each, for --ddpm; by default 1/8, 1/4, 1/2, 3/4 and all of the noise levels."""
    seed: int = 0
    """Of the noise of --ddpm."""
    format: Literal["gif", "webp"] = "gif"
    """Of the animation."""
    out: Path = Path("interpolate")
    """Folder to write."""
    precision: Precision = "fp32"
    """Arithmetic of the network: in less, what is encoded loses its last digits on the way; see ddim sample --help."""


def main(args: Sequence[str]) -> None:
    o = parse(Interpolate, "interpolate", args)
    if o.pictures:
        one_of([*args, "PICTURE"], "PICTURE", "--seeds")
    import torch

    from ddim.diffusion.noise import normal
    from ddim.images.selection import Album
    from ddim.plots import sheets as plot
    from ddim.system.files import folder

    model = opened(o)
    times = data_grid(model, o)
    album = Album(o.pictures, model) if o.pictures else None
    count = len(album) if album else len(o.seeds)
    if count not in (2, 4) or (o.ddpm and count != 2):
        raise InputError(f"interpolate goes between 2 {'' if o.ddpm else 'or 4 '}ends; got {count}")
    if o.frames < 2:
        raise InputError(f"frames must be at least 2; got {o.frames}")
    if o.time and not o.ddpm:
        raise InputError("--time belongs to the DDPM way; pass --ddpm too")
    levels = o.time or tuple(max(1, model.T * k // 8) for k in (1, 2, 4, 6, 8))
    if outside := [t for t in levels if not 1 <= t <= model.T]:
        raise InputError(f"time must be from 1 to {model.T}; got {outside[0]}")
    out = folder(o.out)
    with torch.no_grad():
        noises = torch.cat([normal(s, [0], model.shape) for s in o.seeds]).to(model.device)
        ends = album.batch(range(count)).to(model.device) if album else None
        if o.ddpm:
            if ends is None:
                ends = to_pictures(model, (noises,), times).clamp(-1, 1)
            rows, labels = ddpm_rows(model, ends, levels, o), [f"t = {t}" for t in levels]
        else:
            latents = to_latents(model, ends, times, o.method)[0] if album else (noises,)
            rows = ddim_rows(model, latents, times, o)
            labels = []
    sheet, heads = rows, []
    if album:  # the pictures themselves, at either side of what the model makes of them
        sides = [ends[:2].cpu()] * len(rows)
        if count == 4:
            sides = [ends[:2].cpu(), *[torch.ones(2, *model.shape)] * (len(rows) - 2), ends[2:].cpu()]
        sheet = [torch.cat([side[:1], row, side[1:]]) for row, side in zip(rows, sides, strict=True)]
        heads = ["real", *[""] * o.frames, "real"]
    figure = plot.save(plot.rows(sheet, labels, heads=heads), out / "interpolate.png")
    scale = plot.enlargement(max(model.shape[1:]), 128)
    frames = [plot.rows([row[k : k + 1] for row in rows], labels, scale) for k in range(o.frames)]
    moving = plot.animation(frames, out / f"interpolate.{o.format}", back=True)
    print(f"figure: {figure}\nanimation: {moving}")


def ddim_rows(model, latents, times: list[int], o: Interpolate) -> list:
    """Rows of pictures (frames, C, H, W) along the sphere between two latents, or over the sheet between four."""
    import torch

    from ddim.diffusion.latents import slerp, slerp_grid
    from ddim.system.progress import progress

    if len(latents[0]) == 2:
        paths = [slerp(z[:1], z[1:], torch.linspace(0, 1, o.frames))[None] for z in latents]
    else:
        paths = [slerp_grid(z, o.frames, o.frames) for z in latents]
    flat = [path.flatten(0, 1) for path in paths]  # (rows · frames, C, H, W)
    batches = batches_of(model, len(flat[0]), o.batch_size)
    made = []
    with progress("decoding", len(batches) * (len(times) - len(latents))) as advance:
        for batch in batches:
            z = tuple(path[batch.start : batch.stop] for path in flat)
            made.append(to_pictures(Counted(model, advance), z, times).cpu())
    return list(torch.cat(made).split(o.frames))


def ddpm_rows(model, ends, levels: Sequence[int], o: Interpolate) -> list:
    """One row of pictures (frames, C, H, W) a time in `levels`."""
    from ddim.diffusion.latents import interpolate_ddpm
    from ddim.system.progress import progress

    with progress("denoising", sum(min(o.steps, t) for t in levels)) as advance:
        counted = Counted(model, advance)
        return [interpolate_ddpm(counted, ends[:1], ends[1:], t, o.frames, o.steps, o.seed).cpu() for t in levels]
