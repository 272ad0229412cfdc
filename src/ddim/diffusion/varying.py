"""Varying images: by noise and denoising (SDEdit), and by decoding with another class than they were encoded with."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from ddim.diffusion.clipping import Clip, clipping
from ddim.diffusion.course import manner
from ddim.diffusion.guidance import Guidance, Label, guided, labels_of
from ddim.diffusion.latents import decode, encode
from ddim.diffusion.model import Denoiser, check_images, levels
from ddim.diffusion.noise import check_seed, draws, normal
from ddim.diffusion.process import marginal
from ddim.diffusion.restoration import OWN, stream
from ddim.diffusion.sampling import chunks, default_batch_size
from ddim.diffusion.schedule import Time, grid
from ddim.diffusion.solvers import Implicit, Solver, check_eta, ddim, find, with_noise
from ddim.diffusion.walk import Moment, walk
from ddim.errors import InputError, check_whole, shown
from ddim.system.progress import progress as progress_bar


def time_of(model: Denoiser, strength: float) -> int:
    """The time that a strength stands for, strength · T. Raises InputError unless it is from 0 to 1."""
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 <= strength <= 1:
        raise InputError(f"strength must be from 0 (the image) to 1 (a new one); got {shown(strength)}")
    return math.ceil(strength * (len(levels(model)) - 1))


def varying(
    model: Denoiser,
    images: Tensor,
    times: Sequence[Time],
    streams: Sequence[int],
    solver: str | Solver = "ddim",
    eta: float | str = 0.0,
    seed: int = 0,
    clip: Clip | bool | None = None,
    label: Label | None = None,
    guidance: float | Guidance = 1.0,
) -> Iterator[Moment]:
    """The walk of one batch: images (N, C, H, W) are diffused to times[0] and denoised along `times`: see `vary`.

    streams: the numbers (N,) of each image's noise.
    """
    images = images.to(getattr(model, "device", "cpu"))
    shape = images.shape[1:]
    x = marginal(images, normal(seed, streams, shape, OWN).to(images), levels(model)[times[0]]).to(images.dtype)
    steps = with_noise(solver, eta, "small", draws(seed, streams, shape, like=x, first=OWN + 1))
    return walk(clipping(guided(model, label, guidance), clip), x, times, steps)


def varying_course(
    model: Denoiser, strength: float, steps: int | None, spacing: str | None, solver: str | Solver | None, eta
) -> tuple[list[Time], Solver]:
    """The grid from the time of a strength to 0, in `steps` or as many as there are levels, and the solver of what
    `ddim.sample` takes for what is not said. Raises InputError.
    """
    first = time_of(model, strength)
    way = manner(model, steps, spacing, solver, eta)
    found = find(way.solver)
    check_whole("steps", way.steps)
    path = grid(levels(model)[: first + 1], min(way.steps, first), way.spacing or "linear") if first else [0]
    check_eta(levels(model), path, eta)
    with_noise(found, eta, "small", iter(()))
    return path, found


@torch.no_grad()
def vary(
    model: Denoiser,
    images: Tensor,
    strength: float = 0.5,
    answers: int = 1,
    steps: int | None = None,
    spacing: str | None = None,
    solver: str | Solver | None = None,
    eta: float | str = 0.0,
    seed: int = 0,
    clip: Clip | bool | None = None,
    batch_size: int | None = None,
    progress: bool = False,
    label: Label | None = None,
    guidance: float | Guidance = 1.0,
) -> Tensor:
    """Images like images (N, C, H, W) in [−1, 1]: (N·answers, C, H, W), those like images[0] first.

    Noise is added up to the time strength · T, and the walk leads down from there, which is SDEdit (Meng et al. 2021,
    arXiv 2108.01073). strength: 0 returns the images, 1 is nearly a new sample. steps: of the way down. The rest as for
    `ddim.sample`. Answer j of image i is the same whatever `answers` and the batch. Raises InputError.
    """
    path, solver = varying_course(model, strength, steps, spacing, solver, eta)
    check_images(model, images), check_whole("answers", answers), check_seed(seed)
    if not images.isfinite().all():
        raise InputError("the images hold NaN or infinity")
    labels = None if label is None else labels_of(model, label, len(images))
    made, total = [], len(images) * answers
    size = default_batch_size(model, images.shape[1:]) if batch_size is None else batch_size
    bar = progress_bar("varying", total * (len(path) - 1)) if progress else nullcontext(lambda n: None)
    with bar as advance:
        for batch in chunks(total, size):
            rows = [k // answers for k in batch]
            x, given = images[rows], None if labels is None else labels[rows]
            streams = [stream(k, answers) for k in batch]
            for moment in varying(model, x, path, streams, solver, eta, seed, clip, given, guidance):
                advance(len(batch))
                x = moment.x
            made.append(x.clamp(-1, 1).cpu())
    return torch.cat(made)


@torch.no_grad()
def relabel(
    model: Denoiser,
    images: Tensor,
    source: Label | None,
    target: Label | None,
    guidance: float | Guidance = 1.0,
    strength: float = 1.0,
    steps: int = 50,
    spacing: str = "linear",
    solver: str | Solver = "ddim",
) -> Tensor:
    """Images (N, C, H, W) in [−1, 1] as of another class: encoded with the class `source` up to the time strength · T,
    and decoded with the class `target`, guided. (N, C, H, W) in [−1, 1] on the CPU.

    source, target: one for all images, or one an image; None is no class. The rest as for `ddim.encode`. With the same
    class at both ends, and guidance 1, it is a round trip. Raises InputError.
    """
    path, solver = relabel_course(model, strength, steps, spacing, solver)
    if source is None and target is None:
        raise InputError("name the class that the images are of, or are to be of")
    check_images(model, images)
    before, after = (None if c is None else labels_of(model, c, len(images)) for c in (source, target))
    x = images.to(getattr(model, "device", "cpu"))
    z = encode(guided(model, before), x, times=path, solver=solver)
    back = decode(guided(model, after, guidance), z, times=path, solver=inverse(solver))
    return back.clamp(-1, 1).cpu()


def relabel_course(
    model: Denoiser, strength: float, steps: int, spacing: str, solver: str | Solver
) -> tuple[list[Time], Solver]:
    """The grid from the time of a strength to 0, and the solver that encodes. Raises InputError."""
    first = time_of(model, strength)
    check_whole("steps", steps)
    if first < 1:
        raise InputError("strength must be above 0 to edit by inversion; got 0")
    return grid(levels(model)[: first + 1], min(steps, first), spacing), find(solver)


def inverse(solver: Solver) -> Solver:
    """The solver that decodes what another encoded."""
    return ddim if isinstance(solver, Implicit) else solver
