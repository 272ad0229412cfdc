"""The density along DDIM's ODE, by the change of variables (Chen et al. 2018, arXiv 1806.07366, eq. 8).

dx̄ = ε dσ̄ (14) changes log p(x̄) by −div ε dσ̄. So the integral ℓ̄ of div ε obeys dℓ̄ = div ε dσ̄, which is the ODE of one
more pixel whose ε is the divergence: any solver that walks images walks it too, in its own order.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddim.diffusion.model import Denoiser
from ddim.diffusion.process import Prediction, from_eps, sigma_bar
from ddim.diffusion.schedule import Time, level
from ddim.diffusion.solvers import Solver
from ddim.diffusion.walk import last, walk
from ddim.system.machine import widest


@dataclass(frozen=True)
class WithDivergence:
    """A model of images with pixels added that gather the divergence: x is (N, 1, 1, D+K), D pixels and K integrals,
    each a dimension's share.

    probes: (K, N, C, H, W) of Hutchinson's estimator, zᵀ J z with E zzᵀ = I; None for the exact trace (K = 1).
    """

    model: Denoiser
    pixels: tuple[int, int, int]  # (C, H, W)
    probes: Tensor | None
    after: Callable[[], None] = lambda: None  # called after each evaluation

    @property
    def abar(self) -> Tensor:
        return self.model.abar

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        size = math.prod(self.pixels)
        with torch.enable_grad():
            images = x[:, 0, 0, :size].reshape(len(x), *self.pixels).detach().requires_grad_()
            eps = self.model(images, t).eps
            shares = self.divergence(images, eps) / size  # (N, K)
        here = level(self.abar, t, x)
        scale = here.sqrt().reshape(-1, 1).to(x)  # x = √ᾱ x̄
        eps = torch.cat([eps.detach().flatten(1), scale * shares.to(x)], 1)
        self.after()
        return from_eps(x, eps[:, None, None], here)

    def divergence(self, images: Tensor, eps: Tensor) -> Tensor:
        """div ε by x, (N, K): a product of a vector and the Jacobian for each probe, or for each pixel."""
        if self.probes is None:
            basis = torch.eye(math.prod(self.pixels), dtype=eps.dtype, device=eps.device)  # (D, D)
            return sum(self.products(images, eps, e.view(self.pixels).expand_as(eps)) for e in basis)[:, None]
        return torch.stack([self.products(images, eps, z.to(eps)) for z in self.probes], 1)

    @staticmethod
    def products(images: Tensor, eps: Tensor, z: Tensor) -> Tensor:
        """zᵀ J z of each image, (N,)."""
        (jacobian,) = torch.autograd.grad(eps, images, z, retain_graph=True)
        return (jacobian * z).flatten(1).sum(1)


def noise_at_1(
    model: Denoiser, images: Tensor, probes: Tensor | None = None, after: Callable[[], None] = lambda: None
) -> Tensor:
    """log p_0 − log p_1 of `images` as the state x̄, (N,) nats: what the noise of t = 1 changes, to first order in σ̄².

    Noise spreads a density as heat, ∂ log p/∂σ̄² = (Δ log p + ‖∇ log p‖²)/2, and ∇ log p = −ε/σ̄. A network knows no
    level below t = 1, so this is as far as it tells.
    """
    shape, level_1 = tuple(images.shape[1:]), level(model.abar, 1)
    added = images.new_zeros(len(images), 1 if probes is None else len(probes))
    x = torch.cat([level_1.sqrt() * images.flatten(1), added], 1).to(widest(images.device))
    size, eps = math.prod(shape), WithDivergence(model, shape, probes, after)(x[:, None, None], 1).eps[:, 0, 0]
    divergence = size * eps[:, size:].mean(1)
    return (sigma_bar(level_1) * divergence - eps[:, :size].square().sum(1)) / 2


def log_density(
    model: Denoiser,
    images: Tensor,
    times: Sequence[Time],
    solver: str | Solver,
    probes: Tensor | None = None,
    after: Callable[[], None] = lambda: None,
) -> Tensor:
    """log p of `images` as the state x̄ at the first of the rising `times`, which end at T, where p is N(0, I): (N, K)
    nats, one for each probe, or K = 1.

    images: (N, C, H, W).  probes: (K, N, C, H, W), see `WithDivergence`. Raises InputError.
    """
    shape, n, kind = tuple(images.shape[1:]), len(images), widest(images.device)
    size, integrals = math.prod(shape), 1 if probes is None else len(probes)
    start, end = level(model.abar, times[0]), level(model.abar, times[-1])
    x = torch.cat([start.sqrt() * images.to(kind).flatten(1), images.new_zeros(n, integrals, dtype=kind)], 1)
    both = last(walk(WithDivergence(model, shape, probes, after), x[:, None, None], times, solver)).x[:, 0, 0]
    z, gathered = both[:, :size], both[:, size:] / end.sqrt()
    normal = -(z.square().sum(1, keepdim=True) + size * math.log(2 * math.pi)) / 2
    return normal + size * (end.log() / 2 + gathered)  # of x̄ = x/√ᾱ, whence the first
