"""The latent space: images to latents along the deterministic walk, and back."""

import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ddim.diffusion.course import course
from ddim.diffusion.model import Denoiser, check_images, levels
from ddim.diffusion.schedule import Time, grid, level
from ddim.diffusion.solvers import Exact, Implicit, Pair, Solver, find
from ddim.diffusion.walk import Moment, last, walk
from ddim.errors import InputError, shown

Latents = Tensor | tuple[Tensor, Tensor]  # x at the first time; for `exact`, with x at the second
FAR = 10  # where no value is below 0, a larger one is of an image in 0 … 255
UNSOLVED = 1e-2  # a residual of the implicit solver that is worth a warning


def encoding(model: Denoiser, images: Tensor, times: Sequence[Time], solver: str | Solver = "ddim") -> Iterator[Moment]:
    """The walk from images (N, C, H, W) in [−1, 1] up a grid that is given falling: see `ddim.walk`."""
    solver = find(solver)
    if isinstance(solver, Exact):
        check_pair_grid(times)
    return walk(model, images, times[::-1], solver)


def latents_of(end: Moment, like: Tensor) -> Latents:
    """The latents at the end of an encoding, in the dtype of the images: a pair where the state is one."""
    if isinstance(end.state, Pair):
        return end.x.to(like.dtype), end.state.behind.to(like.dtype)
    return end.x.to(like.dtype)


def decoding(
    model: Denoiser, latents: Latents, times: Sequence[Time], solver: str | Solver | None = None
) -> Iterator[Moment]:
    """The walk from latents down a grid. A pair is decoded by `exact`; one tensor, by default, by `ddim`."""
    if isinstance(latents, Tensor):
        return walk(model, latents, times, find(solver or "ddim"))
    solver = find(solver or "exact")
    if not isinstance(solver, Exact):
        raise InputError(f"a pair of latents is decoded by solver exact, not {solver.name}; leave out the solver")
    check_pair_grid(times)
    z, behind = latents
    return walk(model, z, times, solver, Pair(behind, level(model.abar, times[1], z)))


def check_pair_grid(times: Sequence[Time]) -> None:
    """A grid of at least three times: over two alone, the pair would hold the images themselves."""
    if len(times) < 3:
        raise InputError("exact inversion needs at least 2 steps: its latents are x at the grid's first two times")


@torch.no_grad()
def encode(
    model: Denoiser,
    images: Tensor,
    steps: int = 100,
    spacing: str = "linear",
    times: Sequence[Time] | None = None,
    solver: str | Solver = "ddim",
) -> Latents:
    """Images (N, C, H, W) in [−1, 1] to their latents at the grid's first time (13).

    solver: `ddim` asks the network at the level it leaves, so the round trip errs as 1/steps; `implicit` solves for the
    step that sampling undoes, and warns where that has no solution; `exact` gives a pair of latents, x at the grid's
    first two times, from which `decode` on the same grid returns the images to rounding; `heun`, `unipc` err as
    1/steps². Never clips. Raises InputError.
    """
    path = grid(levels(model), steps, spacing, times)
    check_images(model, images)
    if not images.isfinite().all():
        raise InputError("the images hold NaN or infinity")
    if images.min() >= 0 and (largest := images.max().item()) > FAR:
        raise InputError(f"images are numbers in [−1, 1]; got {largest:g}: take x / 127.5 − 1 of values from 0 to 255")
    end = last(encoding(model, images, path, solver))
    if isinstance(find(solver), Implicit) and (worst := end.state.max().item()) > UNSOLVED:
        message = f"implicit encoding left a residual of {worst:.2g}: take more than {len(path) - 1} steps"
        warnings.warn(message, stacklevel=2)
    return latents_of(end, images)


@torch.no_grad()
def decode(
    model: Denoiser,
    z: Latents,
    steps: int = 100,
    spacing: str = "linear",
    times: Sequence[Time] | None = None,
    solver: str | Solver | None = None,
) -> Tensor:
    """Latents (N, C, H, W), or the pair of an exact encoding, to images: about [−1, 1] and not clamped.

    The grid is the one of the encoding. solver: by default `exact` for a pair, else `ddim`. Raises InputError.
    """
    default = "ddim" if isinstance(z, Tensor) else "exact"
    path, solver = course(model, solver or default, steps, spacing, times)
    for part in parts_of(z):
        check_images(model, part)
    return last(decoding(model, z, path, solver)).x.to(parts_of(z)[0].dtype)


def parts_of(z: Latents) -> tuple[Tensor, ...]:
    """The tensors of latents: one, or the two of a pair. Raises InputError."""
    if isinstance(z, Tensor):
        return (z,)
    if not isinstance(z, tuple | list) or len(z) != 2:
        raise InputError(f"latents are a tensor (N, C, H, W), or a pair of an exact encoding; got {shown(z)}")
    return tuple(z)
