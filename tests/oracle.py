"""Analytic models: data of which ε is known exactly, so that samplers can be held against closed forms."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddim.process import Prediction, from_eps


@dataclass(frozen=True)
class Gaussian:
    """x_0 ~ N(mean, variance), each pixel by itself; mean and variance broadcast against (N, C, H, W)."""

    abar: Tensor
    mean: Tensor
    variance: Tensor

    def spread(self, t: int) -> Tensor:
        """The standard deviation of x_t: √(ᾱ_t v + 1 − ᾱ_t)."""
        return (self.abar[t] * self.variance + 1 - self.abar[t]).sqrt()

    def __call__(self, x: Tensor, t: int) -> Prediction:
        """E[ε | x_t = x]. As with a network, t = 0 is asked at level 1."""
        level = self.abar[max(t, 1)]
        eps = (1 - level).sqrt() * (x - level.sqrt() * self.mean) / (level * self.variance + 1 - level)
        return from_eps(x, eps, self.abar[t])

    def flow(self, x: Tensor, t: int, s: int) -> Tensor:
        """Where the probability-flow ODE carries x from t to s: the position in standard deviations is kept."""
        centre_t, centre_s = self.abar[t].sqrt() * self.mean, self.abar[s].sqrt() * self.mean
        return centre_s + (x - centre_t) * self.spread(s) / self.spread(t)


@dataclass(frozen=True)
class Mixture:
    """x_0 ~ Σ_k weights[k] N(means[k], variance I): weights (K,), means (K, C, H, W), variance a number."""

    abar: Tensor
    weights: Tensor
    means: Tensor
    variance: float

    def __call__(self, x: Tensor, t: int) -> Prediction:
        """E[ε | x_t = x] = √(1−ᾱ) Σ_k r_k(x) (x − √ᾱ m_k)/(ᾱ v + 1 − ᾱ), r_k the responsibilities."""
        level = self.abar[max(t, 1)]
        total = level * self.variance + 1 - level
        offset = x[:, None] - level.sqrt() * self.means  # (N, K, C, H, W)
        r = (self.weights.log() - offset.flatten(2).square().sum(2) / (2 * total)).softmax(1)  # (N, K)
        eps = (1 - level).sqrt() * (r[:, :, None, None, None] * offset).sum(1) / total
        return from_eps(x, eps, self.abar[t])

    def nearest(self, x: Tensor) -> Tensor:
        """The component whose mean is nearest: (N,)."""
        return torch.cdist(x.flatten(1), self.means.flatten(1)).argmin(1)
