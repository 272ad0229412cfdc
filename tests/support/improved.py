"""Improved DDPM's chain (Nichol & Dhariwal 2021) written from the paper for the tests, in float64, with the β that the
kept levels have. And the authors' own code, where IMPROVED_DIFFUSION names a checkout.
"""

import importlib
import os
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence


@dataclass
class Chain:
    """Steps i = 0 … S−1 of the levels ᾱ at rising `times`. network: (x, index) -> (N, 2C, H, W), ε and v."""

    network: torch.nn.Module
    abar: np.ndarray  # (T+1,)
    times: list[int]
    clip: bool = True

    def __post_init__(self):
        kept = self.abar[self.times]
        self.now, self.before = kept, np.append(1.0, kept[:-1])
        self.beta = 1 - self.now / self.before
        self.tilde = self.beta * (1 - self.before) / (1 - self.now)
        self.log_tilde = np.log(np.append(self.tilde[1], self.tilde[1:]))  # the first one is 0

    def mean_of(self, i: int, x0: Tensor, x: Tensor) -> Tensor:
        """Ho et al. 2020, eq. 7."""
        first = np.sqrt(self.before[i]) * self.beta[i] / (1 - self.now[i])
        second = np.sqrt(1 - self.beta[i]) * (1 - self.before[i]) / (1 - self.now[i])
        return first * x0 + second * x

    def step(self, i: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, log-variance and x̂_0 of p(x_{i−1} | x_i)."""
        with torch.no_grad():
            out = self.network(x.float(), torch.full((len(x),), self.times[i] - 1)).double()
        eps, v = out.chunk(2, 1)
        x0 = (x - np.sqrt(1 - self.now[i]) * eps) / np.sqrt(self.now[i])
        x0 = x0.clamp(-1, 1) if self.clip else x0
        return self.mean_of(i, x0, x), (v + 1) / 2 * np.log(self.beta[i]) + (1 - v) / 2 * self.log_tilde[i], x0

    def sample(self, x: Tensor, noise: list[Tensor]) -> Tensor:
        """From x at the last level down, noise[k] in the k-th step; none in the last."""
        for k, i in enumerate(reversed(range(len(self.times)))):
            mean, log_variance, _ = self.step(i, x)
            x = mean + (log_variance / 2).exp() * noise[k] if i else mean
        return x

    def term(self, i: int, x0: Tensor, noise: Tensor) -> Tensor:
        """L_i of the bound, bits per dimension (N,): from torch's own normal distributions."""
        x = np.sqrt(self.now[i]) * x0 + np.sqrt(1 - self.now[i]) * noise
        mean, log_variance, _ = self.step(i, x)
        p = Normal(mean, (log_variance / 2).exp())
        if i:
            q = Normal(self.mean_of(i, x0, x), np.sqrt(self.tilde[i]))
            nats = kl_divergence(q, p)
        else:
            above, below = p.cdf(x0 + 1 / 255), p.cdf(x0 - 1 / 255)
            above[x0 > 0.999], below[x0 < -0.999] = 1.0, 0.0
            nats = -(above - below).clamp(min=1e-12).log()
        return nats.flatten(1).mean(1) / np.log(2)

    def prior(self, x0: Tensor) -> Tensor:
        q = Normal(np.sqrt(self.now[-1]) * x0, np.sqrt(1 - self.now[-1]))
        return kl_divergence(q, Normal(0.0, 1.0)).flatten(1).mean(1) / np.log(2)


def public(abar: np.ndarray, times: list[int]):
    """The authors' own diffusion over these levels; the test is skipped where IMPROVED_DIFFUSION names no checkout."""
    folder = os.environ.get("IMPROVED_DIFFUSION")
    if not folder:
        pytest.skip("IMPROVED_DIFFUSION names no checkout of github.com/openai/improved-diffusion")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    code = importlib.import_module("improved_diffusion.gaussian_diffusion")
    respace = importlib.import_module("improved_diffusion.respace")
    return respace.SpacedDiffusion(
        [t - 1 for t in times],
        betas=1 - abar[1:] / abar[:-1],
        model_mean_type=code.ModelMeanType.EPSILON,
        model_var_type=code.ModelVarType.LEARNED_RANGE,
        loss_type=code.LossType.RESCALED_MSE,
    )
