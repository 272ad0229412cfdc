"""Inverting DDIM sampling itself: the implicit step by a fixed point, and exactly by bidirectional integration.

Plain encoding (`ddim.encode`) asks the network at the level it leaves, sampling asks it at the other end of the same
step, so their round trip errs by O(1/S). Each of the two ways here removes that error, and names its price.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ddim.diffusion.model import Denoiser
from ddim.diffusion.process import Prediction, from_eps
from ddim.diffusion.sampling import end, grid, walk
from ddim.errors import InputError

MEMORY = 6  # iterates that Anderson acceleration combines


class Implicit:
    """A model for rising times that answers with the ε of the level being *entered*, so that DDIM's step up undoes its
    step down: x_t = √ᾱ_t (x_s/√ᾱ_s + (σ̄_t − σ̄_s) ε_θ(x_t, t)), solved for x_t by a fixed point.

    times: the grid, in either direction.  A picture is done when the root mean square of its residual is `tolerance`
    or less; at most `iterations` network evaluations a step.
    residual: after a walk, (N,) each picture's largest residual over the steps. Where it is far above the tolerance
    the step has no solution near: take more steps.
    """

    def __init__(self, model: Denoiser, times: Sequence[int], tolerance: float = 1e-6, iterations: int = 50):
        self.model, self.abar = model, model.abar
        self.entered = dict(pairwise(sorted(times)))
        self.tolerance, self.iterations = tolerance, iterations
        self.residual: Tensor | None = None

    def __call__(self, x: Tensor, t: int) -> Prediction:
        """The Prediction at x (N, C, H, W) and t from which DDIM's step to the next time solves the implicit step."""
        if t not in self.entered:
            raise InputError(f"t = {t} is not on the grid that is being inverted, or is its last time")
        entered = self.entered[t]
        low, high = self.abar[t], self.abar[entered]
        a = (high / low).sqrt()
        b = (1 - high).sqrt() - a * (1 - low).sqrt()  # √ᾱ_t (σ̄_t − σ̄_s)
        solution, residual = anderson(
            lambda y: a * x + b * self.model(y, entered).eps, a * x, self.tolerance, self.iterations
        )
        self.residual = residual if self.residual is None else torch.maximum(self.residual, residual)
        # The ε that leads exactly to the solution: stepping down from there misses x by the residual and no more.
        return from_eps(x, (solution - a * x) / b, low)


def wide(x: Tensor) -> Tensor:
    """float64 for sums whose rounding nothing damps, where the device has it. The network keeps its own dtype."""
    return x if x.device.type == "mps" else x.double()


def anderson(g, x: Tensor, tolerance: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Solve x = g(x) for each row of x (N, …) by Anderson acceleration; returns the best x seen and its residual (N,).

    The next iterate is Σ α_i g(x_i) over the last MEMORY iterates, with Σ α_i = 1 and ‖Σ α_i (g(x_i) − x_i)‖ least
    (Walker & Ni 2011). A residual is the root mean square of g(x) − x over a row.
    """
    best, least = x, wide(x.new_full((len(x),), torch.inf))
    values, residuals = [], []  # g(x_i) and g(x_i) − x_i, each (N, D) float64
    for _ in range(iterations):
        value = g(x)
        residual = wide(value - x).flatten(1)  # (N, D)
        size = residual.square().mean(1).sqrt()  # (N,)
        better = size < least
        best = torch.where(better.view(-1, *[1] * (x.ndim - 1)), x, best)
        least = torch.where(better, size, least)
        if (least <= tolerance).all():
            break
        values = [*values, wide(value).flatten(1)][-MEMORY:]
        residuals = [*residuals, residual][-MEMORY:]
        r = torch.stack(residuals, 1)  # (N, m, D)
        gram = r @ r.mT  # (N, m, m)
        ridge = 1e-12 * gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] + 1e-30
        gram = gram + ridge * torch.eye(gram.shape[1], device=gram.device, dtype=gram.dtype)
        alpha = torch.linalg.solve(gram, gram.new_ones(gram.shape[:2]))  # (N, m)
        alpha = alpha / alpha.sum(1, keepdim=True)
        x = (alpha[:, :, None] * torch.stack(values, 1)).sum(1).to(x.dtype).view_as(x)
    return best, least


class Bidirectional:
    """The step of bidirectional integration approximation, BDIA with γ = 1 (Zhang et al. 2023):
    x_u = x_p − DDIM(x_t→p) + DDIM(x_t→u), where p, t, u follow each other on the grid, up or down.

    Read from the other end the formula is its own inverse. behind, here: x at p and at t, (N, C, H, W); abar: ᾱ_p.
    """

    def __init__(self, behind: Tensor, here: Tensor, abar: Tensor):
        self.behind, self.here, self.abar = behind, here, abar

    def __call__(self, past: tuple[Prediction, ...], abar: Tensor) -> Tensor:
        # DDIM(x_t→u) − DDIM(x_t→p), subtracted before it meets x: far less rounding than two steps apart.
        x0 = (abar.sqrt() - self.abar.sqrt()) * past[0].x0
        eps = ((1 - abar).sqrt() - (1 - self.abar).sqrt()) * past[0].eps
        ahead = self.behind + (x0 + eps)
        self.behind, self.here, self.abar = self.here, ahead, past[0].abar
        return ahead


@torch.no_grad()
def encode_pair(
    model: Denoiser,
    images: Tensor,
    steps: int = 100,
    spacing: str = "linear",
    times: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Pictures (N, C, H, W) to the pair of latents, at the grid's first time and at its second, from which
    `decode_pair` on the same grid returns them exactly. The first step is DDIM's. Needs two steps or more."""
    path = pair_grid(model, steps, spacing, times)[::-1]
    x = wide(images)
    here, behind = _carry(model, x, end(walk(model, x, path[:2])), path)
    return here.to(images.dtype), behind.to(images.dtype)


@torch.no_grad()
def decode_pair(
    model: Denoiser,
    pair: tuple[Tensor, Tensor],
    steps: int = 100,
    spacing: str = "linear",
    times: Sequence[int] | None = None,
) -> Tensor:
    """The pictures (N, C, H, W), about [−1, 1] and not clamped, whose pair of latents `encode_pair` made."""
    here, behind = map(wide, pair)
    return _carry(model, here, behind, pair_grid(model, steps, spacing, times))[0].to(pair[0].dtype)


def pair_grid(model: Denoiser, steps: int, spacing: str, times: Sequence[int] | None) -> list[int]:
    """A grid of at least three times: over two alone, the pair would hold the pictures themselves."""
    path = grid(model, steps, spacing, times)
    if len(path) < 3:
        raise InputError("exact inversion needs at least 2 steps: its latents are x at the grid's first two times")
    return path


def _carry(model: Denoiser, behind: Tensor, here: Tensor, path: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Carry x at path[0] and path[1] to the path's end: x there, and x at the time before."""
    step = Bidirectional(behind, here, model.abar[path[0]])
    return end(walk(model, here, path[1:], step)), step.behind
