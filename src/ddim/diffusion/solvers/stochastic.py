"""The step (12) with noise: σ(η) (16), or DDPM's larger deviation σ̂ (appendix D.3). Order 1, down only."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from numbers import Real
from typing import Literal

import torch
from torch import Tensor

from ddim.diffusion.process import posterior_mean, sigma, sigma_hat
from ddim.diffusion.schedule import Time, level
from ddim.diffusion.solvers.contract import Solver, only
from ddim.errors import InputError, shown

Variance = Literal["small", "large"]
VARIANCES = ("small", "large")


@dataclass(frozen=True)
class Stochastic(Solver):
    """DDIM's step with fresh noise, which the value holds: `noise` yields one (N, C, H, W) a step.

    variance: "small" is σ(η); "large" is σ̂, which scales the noise alone, while the direction keeps σ(η). η is 1
    there: in the direction, σ̂ would make the radicand negative.
    """

    name: str = "ddim"
    order: int = 1
    eta: float = 1.0
    variance: Variance = "small"
    noise: Iterator[Tensor] = field(default=iter(()), repr=False)

    def step(self, model, x: Tensor, t: Time, s: Time, state: None):
        only(self, t, s, falling=True)
        prediction, abar_s = model(x, t), level(model.abar, s, x)
        direction = sigma(self.eta, prediction.abar, abar_s)
        mean = posterior_mean(prediction, abar_s, direction)
        data = abar_s == 1
        if data.all():  # the last step adds no noise: σ(η) is 0 there by itself, σ̂ is not
            return mean.to(x.dtype), prediction, None
        spread = sigma_hat(prediction.abar, abar_s) if self.variance == "large" else direction
        if spread.ndim:
            spread = torch.where(data, 0.0, spread)
        return (mean + spread * next(self.noise)).to(x.dtype), prediction, None


def noise_of(eta: float | str, variance: str = "small") -> tuple[float, Variance]:
    """η and the variance by name; η = "hat" is an alias of η = 1 with the large variance. Raises InputError."""
    if isinstance(eta, str) and eta == "hat":
        return 1.0, "large"
    if isinstance(eta, bool) or not isinstance(eta, Real) or not math.isfinite(eta) or eta < 0:
        raise InputError(f"eta must be 0 or more, or 'hat'; got {shown(eta)}")
    if variance not in VARIANCES:
        raise InputError(f"unknown variance {shown(variance)}: choose one of {', '.join(VARIANCES)}")
    if variance == "large" and eta != 1:
        raise InputError(f"variance large needs eta 1; got eta {eta:g}")
    return float(eta), variance


def check_eta(abar: Tensor, times: Sequence[Time], eta: float | str, variance: str = "small") -> None:
    """Raise InputError unless η is "hat" or a number ≥ 0 with σ(η)² ≤ 1−ᾱ_s on every step of `times`."""
    value, _ = noise_of(eta, variance)
    if value <= 1:
        return
    # The radicand 1−ᾱ_s−σ(η)² vanishes at η = √(1−ᾱ_s)/σ(1); the step into the data has σ = 0 whatever η.
    bounds = {}
    for t, s in pairwise(times):
        low, high = level(abar, t), level(abar, s)
        if not (high == 1).all():
            bounds[((1 - high).sqrt() / sigma(1.0, low, high)).min().item()] = t, s
    if bounds and value > (bound := min(bounds)):
        t, s = bounds[bound]
        raise InputError(f"eta {eta} is too large for this grid: at most {bound:.4f}, by its step {t} -> {s}")
