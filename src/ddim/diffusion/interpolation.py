"""Paths between latents, and the images along them: DDIM's way along the sphere, and DDPM's."""

import math
from collections.abc import Iterator, Sequence
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor

from ddim.diffusion import schedule
from ddim.diffusion.blending import among, classes_of
from ddim.diffusion.clipping import Clip, clipping
from ddim.diffusion.guidance import Guidance, Label, guided
from ddim.diffusion.latents import Latents, decode, parts_of
from ddim.diffusion.model import Denoiser, check_images, levels
from ddim.diffusion.noise import draws, normal
from ddim.diffusion.process import marginal
from ddim.diffusion.schedule import Time, grid
from ddim.diffusion.solvers import Solver, with_noise
from ddim.diffusion.solvers.inversion import wide
from ddim.diffusion.walk import Moment, last, walk
from ddim.errors import InputError, check_whole, shown
from ddim.system.machine import widest


def slerp(z_0: Tensor, z_1: Tensor, fractions: Tensor | Sequence[float] | float) -> Tensor:
    """Spherical interpolation (D.5), per sample over the flattened image.

    z_0, z_1: (N, C, H, W).  fractions: (F,), or a number; 0 gives z_0 and 1 gives z_1. N and F are
    equal, or one of them is 1.
    Returns (max(N, F), C, H, W).  z(a) = sin((1−a)θ)/sin θ · z_0 + sin(aθ)/sin θ · z_1; near θ = 0, the straight line.
    Raises InputError.
    """
    if not isinstance(z_0, Tensor) or not isinstance(z_1, Tensor):
        raise InputError(f"slerp goes between tensors; got {shown(z_0)} and {shown(z_1)}")
    if isinstance(fractions, str) or not isinstance(fractions, Tensor | Sequence | Real):
        raise InputError(f"fractions are numbers, 0 … 1; got {shown(fractions)}")
    fractions = torch.as_tensor(fractions).reshape(-1)
    n, f = len(z_0), len(fractions)
    if z_0.shape != z_1.shape or (n != f and 1 not in (n, f)):
        raise InputError(f"slerp needs latents of one shape and one fraction a pair: {z_0.shape}, {z_1.shape}, {f}")
    wide = widest(z_0.device)
    u, v = z_0.flatten(1).to(wide), z_1.flatten(1).to(wide)  # (N, C·H·W)
    theta = F.cosine_similarity(u, v).clamp(-1, 1).arccos()[:, None]  # (N, 1)
    a = fractions.to(u)[:, None]  # (F, 1)
    straight = theta.sin() < 1e-6
    sine = theta.sin().where(~straight, 1.0)
    w_0 = torch.where(straight, 1 - a, ((1 - a) * theta).sin() / sine)  # (max(N, F), 1)
    w_1 = torch.where(straight, a, (a * theta).sin() / sine)
    return (w_0 * u + w_1 * v).to(z_0.dtype).view(-1, *z_0.shape[1:])


def slerp_grid(corners: Tensor, rows: int, columns: int) -> Tensor:
    """The sheet between four latents (D.5): down the pairs (0, 2) and (1, 3), then across.

    corners: (4, C, H, W): top left, top right, bottom left, bottom right.  Returns (rows, columns, C, H, W).
    Raises InputError.
    """
    if len(corners) != 4:
        raise InputError(f"a grid of latents has four corners; got {len(corners)}")
    down, across = torch.linspace(0, 1, rows), torch.linspace(0, 1, columns)
    left, right = slerp(corners[0:1], corners[2:3], down), slerp(corners[1:2], corners[3:4], down)  # (rows, C, H, W)
    return torch.stack([slerp(left[i : i + 1], right[i : i + 1], across) for i in range(rows)])


def path_between(ends: Tensor, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """The way between two latents (2, C, H, W), or the sheet between four.

    Returns z (F, C, H, W), F = frames or frames²; which end is nearest, (F,); and w² (F,): 1 at an end, 0 half-way,
    w = |2a − 1| at the fraction a, on a sheet the product of those of its two ways.
    """
    a = torch.linspace(0, 1, frames)
    nearest, w = (a > 0.5).long(), (2 * a - 1).abs()
    if len(ends) == 2:
        return slerp(ends[:1], ends[1:], a), nearest, w**2
    nearest, w = 2 * nearest[:, None] + nearest, w[:, None] * w
    return slerp_grid(ends, frames, frames).flatten(0, 1), nearest.flatten(), w.flatten() ** 2


def places_between(ends: int, frames: int) -> Tensor:
    """Where each image of `path_between` lies: (frames, 1) of fractions, or between four ends (frames², 2)."""
    a = torch.linspace(0, 1, frames)
    return a[:, None] if ends == 2 else torch.cartesian_prod(a, a)


def faded(
    model: Denoiser,
    of_ends: Denoiser,
    z: Tensor,
    ends: Latents,
    nearest: Tensor,
    weight: Tensor,
    times: Sequence[Time],
) -> Latents:
    """Pairs to decode by `model` from z (F, C, H, W) between the pairs `ends`, which `of_ends` encoded; see
    `path_between`.

    The second of a pair is DDIM's step from the first, and, times `weight`, how far the second of the nearest end is
    from that. So the ends come back, and in the middle nothing is left of a deviation that no step of `exact` damps.
    Costs an evaluation of the F and one of the ends.
    """
    first, behind = parts_of(ends)
    off = wide(behind) - walked(of_ends, first, times)
    return z, walked(model, z, times) + weight.to(off).view(-1, 1, 1, 1) * off[nearest.to(off.device)]


def walked(model: Denoiser, z: Tensor, times: Sequence[Time]) -> Tensor:
    """DDIM's step from z at the first time to the second, in float64 where the device has it."""
    return last(walk(model, wide(z), times[:2])).x


@torch.no_grad()
def interpolate(
    model: Denoiser,
    z_0: Latents,
    z_1: Latents,
    frames: int = 11,
    steps: int = 50,
    spacing: str = "linear",
    times: Sequence[Time] | None = None,
    solver: str | Solver | None = None,
    clip: Clip | bool | None = None,
    label: Label | None = None,
    guidance: float | Guidance = 1.0,
) -> Tensor:
    """The images along the spherical path between two latents (1, C, H, W), or between two pairs of an exact encoding,
    whose deviation from DDIM fades (`faded`): (frames, C, H, W), ends included, about [−1, 1].

    clip: as for `ddim.sample`; False makes the ends what `ddim.decode` gives. Pairs are never clipped.
    label, guidance: the class of all images, or a pair, of the first and of the last: between them ε of both is mixed.
    The rest as for `ddim.decode`. Raises InputError.
    """
    levels(model), check_whole("frames", frames)
    classes = classes_of(model, label, 2)
    of_ends = guided(model, None if label is None else classes, guidance)
    model = among(model, classes, places_between(2, frames), guidance)
    ends = parts_of(z_0), parts_of(z_1)
    if len(ends[0]) != len(ends[1]):
        raise InputError("interpolate needs two latents of one kind; got a pair and a single one")
    for part in (*ends[0], *ends[1]):
        check_images(model, part)
    both = tuple(torch.cat(parts) for parts in zip(*ends, strict=True))
    z, nearest, weight = path_between(both[0], frames)
    if len(both) == 1:
        return decode(clipping(model, clip), z, steps, spacing, times, solver)
    pairs = faded(model, of_ends, z, both, nearest, weight, grid(levels(model), steps, spacing, times))
    return decode(model, pairs, steps, spacing, times, solver)


def ddpm_path(
    model: Denoiser,
    x_0: Tensor,
    x_1: Tensor,
    t: int,
    frames: int = 11,
    steps: int = 50,
    seed: int = 0,
    clip: Clip | bool | None = None,
) -> Iterator[Moment]:
    """The walk of the DDPM way (Ho et al. 2020, section 4.3) between two images (1, C, H, W): diffuse both to t, mix
    linearly, denoise from t with η = 1. It ends at (frames, C, H, W), about [−1, 1].

    Large t gives coarse variation, small t something near the blend of the images. Both diffusions, and the noise of
    every step, are the same for all frames. Takes `steps` evaluations, or t where that is less. clip: as for
    `ddim.sample`. Raises InputError.
    """
    T = len(levels(model)) - 1
    check_whole("the time to mix at", t, -math.inf), check_whole("frames", frames), check_whole("steps", steps)
    if not 1 <= t <= T:
        raise InputError(f"the time to mix at must be from 1 to {T}; got {t}")
    for x in (x_0, x_1):
        check_images(model, x)
    shape = x_0.shape[1:]
    noisy = marginal(torch.cat([x_0, x_1]), normal(seed, [0, 1], shape).to(x_0), model.abar[t])  # (2, C, H, W)
    fraction = torch.linspace(0, 1, frames).to(x_0).view(-1, 1, 1, 1)
    x = (1 - fraction) * noisy[0] + fraction * noisy[1]  # (frames, C, H, W)
    noise = draws(seed, [0], shape, like=x)
    return walk(clipping(model, clip), x, schedule.times(t, min(steps, t)), with_noise("ddim", 1.0, "small", noise))


@torch.no_grad()
def interpolate_ddpm(
    model: Denoiser,
    x_0: Tensor,
    x_1: Tensor,
    t: int,
    frames: int = 11,
    steps: int = 50,
    seed: int = 0,
    clip: Clip | bool | None = None,
) -> Tensor:
    """The images of the DDPM way (Ho et al. 2020, section 4.3) between two images (1, C, H, W) in [−1, 1]: both are
    diffused to the time t, from 1 to T, mixed, and denoised from there with η = 1. (frames, C, H, W), about [−1, 1].

    Large t gives coarse variation, small t nearly a blend of the images. The noises are the same for all frames. clip:
    as for `ddim.sample`. Raises InputError.
    """
    return last(ddpm_path(model, x_0, x_1, t, frames, steps, seed, clip)).x
