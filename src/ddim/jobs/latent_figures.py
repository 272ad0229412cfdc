"""Figures and animations of walks: the diffusion sequence, and paths between latents or images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ddim.diffusion.blending import among, classes_of
from ddim.diffusion.clipping import Clip, clipping
from ddim.diffusion.guidance import Guidance, Label, guided
from ddim.diffusion.interpolation import ddpm_path, faded, path_between, places_between
from ddim.diffusion.latents import Latents, decoding, encoding, latents_of, parts_of
from ddim.diffusion.model import Denoiser, Model, levels
from ddim.diffusion.noise import normal
from ddim.diffusion.sampling import generate
from ddim.diffusion.schedule import Time
from ddim.diffusion.solvers import Exact, Implicit, Solver, find
from ddim.diffusion.walk import Moment, last
from ddim.errors import InputError, check_whole
from ddim.images.selection import Selection
from ddim.jobs.bars import bar
from ddim.jobs.claiming import claimed
from ddim.jobs.latent_jobs import batches_of, data_course
from ddim.plots import animations, sheets
from ddim.system.files import folder
from ddim.system.messages import warn

MOMENTS = 100  # most frames in an animation of a sequence
FEW = 20  # fewer steps than these between images are too few: bench/inversion.py


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
    clip: Clip | bool | None = None,
    solver: str | Solver = "ddim",
    format: str = "gif",
    batch_size: int | None = None,
    progress: bool = False,
    label: int | str | None = None,
    guidance: float | Guidance = 1.0,
) -> Figure:
    """Draw how n images come out of noise: x_t above the predicted x̂_0, `frames` columns, and as an animation of every
    step, up to 100, in the folder `out`. The rest as for `ddim.sample`. Raises InputError.
    """
    if n < 1 or frames < 2:
        raise InputError(f"sequence needs at least 1 image and 2 frames; got {n} and {frames}")
    model = guided(model, label, guidance)
    path, solver = data_course(model, solver, steps, spacing, times)
    S, out = len(path) - 1, folder(Path(out))
    columns = moments(S, frames)
    kept = sorted({*columns, *moments(S, MOMENTS)})
    states: dict[int, list[Tensor]] = {i: [] for i in kept}  # step -> batches of (2, B, C, H, W): x_t and x̂_0 there
    batches = batches_of(model, n, batch_size)
    with bar("sampling", len(batches) * S, progress) as advance:
        for indices in batches:
            for i, moment in enumerate(generate(model, indices, path, seed=seed, clip=clip, solver=solver)):
                # The walk shows x after a step, beside the prediction made before it: x_t is read from the latter.
                if i in states:
                    x0, eps, level = moment.prediction[:3]
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
    spacing: str | None = None,
    times: Sequence[Time] | None = None,
    solver: str | Solver | None = None,
    ddpm: bool = False,
    mix_at: Sequence[int] = (),
    seed: int = 0,
    clip: Clip | bool | None = None,
    format: str = "gif",
    batch_size: int | None = None,
    progress: bool = False,
    label: Label | None = None,
    guidance: float | Guidance = 1.0,
    numbers: Sequence[int] = (),
) -> Figure:
    """Draw the path between two images or seeds, or the sheet between four, as figure and animation in its own `out`.

    images: files, encoded first; without them the seeds are used.  frames: along each way.
    numbers: which image of each seed, by default 0.  solver, spacing: by default `exact` and quadratic between images,
    else `ddim` and linear.  ddpm: the DDPM way between two ends, a row for each time of `mix_at`, with noise of `seed`.
    label, guidance, clip: as in `ddim.sample`; a label for all images, or one an end, between which ε of both is mixed.
    Images that were encoded are decoded unclipped. Raises InputError.
    """
    T, real = len(levels(model)) - 1, bool(images) and not ddpm
    spacing, solver = spacing or ("quadratic" if real else "linear"), solver or ("exact" if real else "ddim")
    path, solver = data_course(model, solver, steps, spacing, times)
    chosen = Selection(images, model.shape).outside(out) if images else None
    mixed, count = tuple(mix_at) or tuple(max(1, T * k // 8) for k in (1, 2, 4, 6, 8)), len(chosen or seeds)
    check_ends(count, frames, ddpm, mix_at, mixed, T)
    of_ends, led = led_by(model, label, guidance, count, frames)
    z: Latents = of_seeds(model, seeds, numbers).to(model.device)  # (2 or 4, C, H, W)
    own = {"mix_at": mixed, "seed": seed, "steps": steps} if ddpm else {}
    own |= {"images": chosen} if chosen else {"seeds": [*seeds], "numbers": [*numbers]}
    own |= {"frames": frames, "times": path, "solver": solver.name, "label": classes_of(model, label, count)}
    out = claimed(Path(out) / "interpolate.json", model, clip=clip, guidance=guidance, **own)
    ends = chosen.batch(range(len(chosen))).to(model.device) if chosen else None
    if real:
        warn_of_few(path, solver)
        z, clip = latents_of(last(encoding(of_ends, ends, path, solver)), ends), False
    if ddpm:
        ends = last(decoding(clipping(of_ends, clip), z, path)).x.clamp(-1, 1) if ends is None else ends
        labels = [f"t = {t}" for t in mixed]
        walks = [ddpm_path(led(slice(None)), ends[:1], ends[1:], t, frames, steps, seed, clip) for t in mixed]
        total = sum(min(steps, t) for t in mixed)
    else:
        labels, walks = [], sphere_walks(led, of_ends, z, path, frames, solver, clip, batch_size)
        total = len(walks) * (len(path) - 1)
    made = []
    with bar("sampling", total, progress) as advance:
        for walk in walks:
            for moment in walk:
                advance()
            made.append(moment.x.float().cpu())
    return drawn(model, list(torch.cat(made).split(frames)), labels, ends if chosen else None, out, format)


def warn_of_few(path: Sequence[Time], solver: Solver) -> None:
    """Where so few steps of `exact` between real images show."""
    if isinstance(solver, Exact) and len(path) - 1 < FEW:
        warn(f"in {len(path) - 1} steps the images between come out rough and with too much contrast: take 50")


def led_by(
    model: Model, label: Label | None, guidance: float | Guidance, ends: int, frames: int
) -> tuple[Denoiser, Callable[[slice], Denoiser]]:
    """The model of the ends, given their classes, and what makes that of some of the frames between them."""
    classes, places = classes_of(model, label, ends), places_between(ends, frames)
    of_ends = guided(model, None if label is None else classes, guidance)
    return of_ends, lambda part: among(model, classes, places[part], guidance)


def of_seeds(model: Denoiser, seeds: Sequence[int], numbers: Sequence[int] = ()) -> Tensor:
    """The latents (N, C, H, W) of one image of each seed, number 0 unless `numbers` says which. Raises InputError."""
    if numbers and len(numbers) != len(seeds):
        raise InputError(f"numbers name an image of each of the {len(seeds)} seeds; got {len(numbers)}")
    for number in numbers:
        check_whole("the number of an image", number, 0)
    return torch.cat([normal(s, [k], model.shape) for s, k in zip(seeds, numbers or [0] * len(seeds), strict=True)])


def drawn(model: Model, rows: list[Tensor], labels: list[str], ends: Tensor | None, out: Path, format: str) -> Figure:
    """The figure and the animation of rows of images. ends: the real images, to stand at either side."""
    figure = sheets.save(sheet_between(model, rows, labels, ends), out / "interpolate.png")
    stills = stills_between(model, rows, labels)
    return Figure(figure, animations.animation(stills, out / f"interpolate.{format}", back=True))


def sheet_between(model: Model, rows: list[Tensor], labels: list[str], ends: Tensor | None) -> Image.Image:
    """Rows of images (F, C, H, W) as one, with the real ones at either side."""
    frames = len(rows[0])
    sheet, heads = rows, []
    if ends is not None:  # the images themselves, at either side of what the model makes of them
        sides = [ends[:2].cpu()] * len(rows)
        if len(ends) == 4:
            sides = [ends[:2].cpu(), *[torch.ones(2, *model.shape)] * (len(rows) - 2), ends[2:].cpu()]
        sheet = [torch.cat([side[:1], row, side[1:]]) for row, side in zip(rows, sides, strict=True)]
        heads = ["real", *[""] * frames, "real"]
    return sheets.rows(sheet, labels, heads=heads)


def stills_between(model: Model, rows: list[Tensor], labels: list[str]) -> list[Image.Image]:
    """The columns of rows of images, each as one image of an animation."""
    scale = sheets.enlargement(max(model.shape[1:]), 128)
    return [sheets.rows([row[k : k + 1] for row in rows], labels, scale) for k in range(len(rows[0]))]


def check_ends(count: int, frames: int, ddpm: bool, mix_at: Sequence[int], mixed: Sequence[int], T: int) -> None:
    """Raise InputError where a path cannot be drawn."""
    if count not in (2, 4) or (ddpm and count != 2):
        raise InputError(f"interpolate goes between 2 {'' if ddpm else 'or 4 '}ends; got {count}")
    if frames < 2:
        raise InputError(f"frames must be at least 2; got {frames}")
    if mix_at and not ddpm:
        raise InputError("times to mix at belong to the DDPM way; choose ddpm too")
    if outside := [t for t in mixed if not 1 <= t <= T]:
        raise InputError(f"time must be from 1 to {T}; got {outside[0]}")


def sphere_walks(
    led: Callable[[slice], Denoiser],
    of_ends: Denoiser,
    latents: Latents,
    path: Sequence[Time],
    frames: int,
    solver: Solver,
    clip: Clip | bool | None,
    batch_size: int | None,
) -> list[Iterator[Moment]]:
    """The walks, a batch each, down from the sphere between two latents, or from the sheet between four.

    led: the model of some of the images.  of_ends: that of the ends.
    """
    z, nearest, weight = path_between(parts_of(latents)[0], frames)
    solver = find("ddim") if isinstance(solver, Implicit) else solver  # whose inverse is DDIM's step
    walks = []
    for batch in batches_of(of_ends, len(z), batch_size):
        part = slice(batch.start, batch.stop)
        model = led(part)
        between: Latents = z[part]
        if isinstance(latents, tuple):
            between = faded(model, of_ends, between, latents, nearest[part], weight[part], path)
        walks.append(decoding(clipping(model, clip), between, path, solver))
    return walks
