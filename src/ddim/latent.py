"""The latent space: pictures to latents and back along the deterministic walk, and paths between latents."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ddim.errors import InputError
from ddim.model import Denoiser
from ddim.sampler import end, grid, walk


@torch.no_grad()
def encode(
    model: Denoiser,
    images: Tensor,
    steps: int = 100,
    spacing: str = "linear",
    times: Sequence[int] | None = None,
) -> Tensor:
    """Pictures (N, C, H, W) in [−1, 1] to their latents at the grid's first time: DDIM's walk (13) with rising times.

    Each step asks the network at the level it leaves (explicit), so the round trip's error falls as 1/steps.
    """
    return end(walk(model, images, grid(model, steps, spacing, times)[::-1]))


@torch.no_grad()
def decode(
    model: Denoiser,
    z: Tensor,
    steps: int = 100,
    spacing: str = "linear",
    times: Sequence[int] | None = None,
) -> Tensor:
    """Latents (N, C, H, W) to pictures, about [−1, 1] and not clamped, by DDIM down the same grid."""
    return end(walk(model, z, grid(model, steps, spacing, times)))


def slerp(z_0: Tensor, z_1: Tensor, fractions: Tensor) -> Tensor:
    """Spherical interpolation (D.5), per sample over the flattened picture.

    z_0, z_1: (N, C, H, W).  fractions: (F,), 0 gives z_0 and 1 gives z_1; N and F are equal, or one of them is 1.
    Returns (max(N, F), C, H, W).  z(a) = sin((1−a)θ)/sin θ · z_0 + sin(aθ)/sin θ · z_1; near θ = 0, the straight line.
    """
    n, f = len(z_0), len(fractions)
    if z_0.shape != z_1.shape or (n != f and 1 not in (n, f)):
        raise InputError(f"slerp needs latents of one shape and one fraction a pair: {z_0.shape}, {z_1.shape}, {f}")
    u, v = z_0.flatten(1).double(), z_1.flatten(1).double()  # (N, C·H·W)
    theta = F.cosine_similarity(u, v).clamp(-1, 1).arccos()[:, None]  # (N, 1)
    a = fractions.to(u)[:, None]  # (F, 1)
    straight = theta.sin() < 1e-6
    sine = theta.sin().where(~straight, 1.0)
    w_0 = torch.where(straight, 1 - a, ((1 - a) * theta).sin() / sine)  # (max(N, F), 1)
    w_1 = torch.where(straight, a, (a * theta).sin() / sine)
    return (w_0 * u + w_1 * v).to(z_0.dtype).view(-1, *z_0.shape[1:])


def interpolate(
    model: Denoiser,
    z_0: Tensor,
    z_1: Tensor,
    frames: int = 11,
    steps: int = 50,
    spacing: str = "linear",
    times: Sequence[int] | None = None,
) -> Tensor:
    """The pictures along the spherical path between two latents (1, C, H, W): (frames, C, H, W), ends included."""
    path = slerp(z_0, z_1, torch.linspace(0, 1, frames))
    return decode(model, path, steps, spacing, times)
