"""Analytic models: data of which ε is known exactly, so that samplers can be held against closed forms."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from ddim.diffusion.process import Prediction, from_eps
from ddim.diffusion.schedule import Time, level


@dataclass(frozen=True)
class Gaussian:
    """x_0 ~ N(mean, variance), each pixel by itself; mean and variance broadcast against (N, C, H, W)."""

    abar: Tensor
    mean: Tensor
    variance: Tensor

    def spread(self, t: Time) -> Tensor:
        """The standard deviation of x_t: √(ᾱ_t v + 1 − ᾱ_t)."""
        return (level(self.abar, t) * self.variance + 1 - level(self.abar, t)).sqrt()

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        """E[ε | x_t = x]. As with a network, t = 0 is asked at level 1."""
        here = level(self.abar, t)
        asked = torch.where(here == 1, self.abar[1], here)
        eps = (1 - asked).sqrt() * (x - asked.sqrt() * self.mean) / (asked * self.variance + 1 - asked)
        return from_eps(x, eps, here)

    def flow(self, x: Tensor, t: Time, s: Time) -> Tensor:
        """Where the probability-flow ODE carries x from t to s: the position in standard deviations is kept."""
        centre_t, centre_s = level(self.abar, t).sqrt() * self.mean, level(self.abar, s).sqrt() * self.mean
        return centre_s + (x - centre_t) * self.spread(s) / self.spread(t)

    def log_density(self, x: Tensor, t: Time) -> Tensor:
        """log q(x_t = x), all pixels together: (N,)."""
        normal = torch.distributions.Normal(self.abar[t].sqrt() * self.mean, self.spread(t))
        return normal.log_prob(x).flatten(1).sum(1)


@dataclass(frozen=True)
class Mixture:
    """x_0 ~ Σ_k weights[k] N(means[k], variance I): weights (K,), means (K, C, H, W), variance a number."""

    abar: Tensor
    weights: Tensor
    means: Tensor
    variance: float

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        """E[ε | x_t = x]. As with a network, t = 0 is asked at level 1."""
        here = level(self.abar, t)
        return from_eps(x, self.eps(x, torch.where(here == 1, self.abar[1], here)), here)

    def eps(self, x: Tensor, abar: Tensor) -> Tensor:
        """E[ε | x] = √(1−ᾱ) Σ_k r_k(x) (x − √ᾱ m_k)/(ᾱ v + 1 − ᾱ) at any level ᾱ, 0-dim or (N, 1, 1, 1), with r_k the
        responsibilities.
        """
        total = abar * self.variance + 1 - abar
        offset = x[:, None] - abar.sqrt()[..., None] * self.means  # (N, K, C, H, W)
        each = 2 * total.flatten()[:, None]  # (1 or N, 1)
        r = (self.weights.log() - offset.flatten(2).square().sum(2) / each).softmax(1)  # (N, K)
        return (1 - abar).sqrt() * (r[:, :, None, None, None] * offset).sum(1) / total

    def log_density(self, x: Tensor, t: Time) -> Tensor:
        """log q(x_t = x), all pixels together: (N,)."""
        total = self.abar[t] * self.variance + 1 - self.abar[t]
        offset = (x[:, None] - self.abar[t].sqrt() * self.means).flatten(2)  # (N, K, C·H·W)
        constant = offset.shape[2] / 2 * (2 * torch.pi * total).log()
        return (self.weights.log() - offset.square().sum(2) / (2 * total)).logsumexp(1) - constant

    def flow(self, x: Tensor, t: Time, s: Time) -> Tensor:
        """Where the probability-flow ODE carries x from t to s: dx̄ = ε dσ̄ (14) by Dormand-Prince, to about 1e-11."""
        start, end = ((1 / level(self.abar, i) - 1).sqrt().item() for i in (t, s))  # σ̄ = √((1−ᾱ)/ᾱ)

        def slope(sigma: float, flat: np.ndarray) -> np.ndarray:
            abar = torch.tensor(1 / (1 + sigma**2), dtype=torch.float64)
            return self.eps(abar.sqrt() * torch.from_numpy(flat).view(x.shape), abar).flatten().numpy()

        scaled = (x / level(self.abar, t).sqrt()).flatten().numpy()  # x̄
        # The curve bends most where σ̄ is small: log σ̄ would miss its end at 0, so the integrator picks its own steps.
        found = solve_ivp(slope, (start, end), scaled, method="DOP853", rtol=1e-12, atol=1e-12)
        return level(self.abar, s).sqrt() * torch.from_numpy(found.y[:, -1]).view(x.shape)

    def nearest(self, x: Tensor) -> Tensor:
        """The component whose mean is nearest: (N,)."""
        return torch.cdist(x.flatten(1), self.means.flatten(1)).argmin(1)


@dataclass(frozen=True)
class Correlated:
    """x_0 ~ N(mean, covariance), over all pixels together: mean (C, H, W), covariance (D, D), D = C·H·W."""

    abar: Tensor
    mean: Tensor
    covariance: Tensor

    def gain(self, abar: Tensor) -> Tensor:
        """(ᾱ C + 1 − ᾱ)⁻¹, (D, D)."""
        return torch.linalg.inv(abar * self.covariance + (1 - abar) * torch.eye(len(self.covariance)).to(self.mean))

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        """E[ε | x_t = x]. As with a network, t = 0 is asked at level 1."""
        here = level(self.abar, t)
        asked = torch.where(here == 1, self.abar[1], here)
        eps = (1 - asked).sqrt() * (x - asked.sqrt() * self.mean).flatten(1) @ self.gain(asked)
        return from_eps(x, eps.view_as(x), here)

    def posterior(self, t: Time) -> Tensor:
        """The covariance of x_0 given x_t, (D, D), whatever x_t."""
        here = level(self.abar, t)
        return self.covariance - here * self.covariance @ self.gain(here) @ self.covariance

    def spread(self, v: Tensor, x: Tensor, t: Time) -> Tensor:
        """`posterior` times each v (N, C, H, W), as `ddim.restore` takes a covariance."""
        return (v.flatten(1) @ self.posterior(t)).view_as(v)

    def given(self, A: Tensor, y: Tensor, noise: float = 0.0) -> "Correlated":
        """The law of x_0 given y = A x_0 + noise · n: A (K, D), y (K,)."""
        K = self.covariance @ A.T @ torch.linalg.pinv(A @ self.covariance @ A.T + noise**2 * torch.eye(len(A)).to(A))
        mean = self.mean + (K @ (y - A @ self.mean.flatten())).view_as(self.mean)
        return Correlated(self.abar, mean, self.covariance - K @ A @ self.covariance)
