"""Steps with noise: (12) with σ(η) (16), with DDPM's larger deviation σ̂ (appendix D.3), or with a learned one between
them. Down only.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from numbers import Real
from typing import Literal

import torch
from torch import Tensor

from ddim.diffusion.process import Prediction, learned_log_variance, posterior_mean, sigma, sigma_hat
from ddim.diffusion.schedule import Time, level
from ddim.diffusion.solvers.contract import Solver, only
from ddim.diffusion.solvers.multisteps import dpm2m_mean
from ddim.errors import InputError, shown

Variance = Literal["small", "large", "learned"]
VARIANCES = ("small", "large", "learned")
UNLEARNED = "this model has not learned its variance: choose variance small or large"
Mean = Callable[[tuple[Prediction, ...], Tensor, Tensor], Tensor]


def posterior(past: tuple[Prediction, ...], abar: Tensor, sigma: Tensor) -> Tensor:
    """The mean of q_σ (7) for the last prediction alone."""
    return posterior_mean(past[0], abar, sigma)


@dataclass(frozen=True)
class Stochastic(Solver):
    """A step with fresh noise, which the value holds: `noise` yields one (N, C, H, W) a step. The order is that of the
    law of what comes out.

    mean: of the step, from the last `memory` predictions, newest first, the level ᾱ_s and the deviation σ; DDIM's by
    default.  variance: "small" is σ(η); "large" is σ̂, "learned" what the network says, a place between the two for each
    pixel. These scale the noise alone, while the direction keeps σ(η). η is 1 there: in the direction, σ̂ would make the
    radicand negative.
    """

    name: str = "ddim"
    order: int = 1
    eta: float = 1.0
    variance: Variance = "small"
    noise: Iterator[Tensor] = field(default=iter(()), repr=False)
    mean: Mean = posterior
    memory: int = 1

    def step(self, model, x: Tensor, t: Time, s: Time, state: tuple[Prediction, ...] | None):
        only(self, t, s, falling=True)
        past = (model(x, t), *(state or ()))[: self.memory]
        prediction, abar_s = past[0], level(model.abar, s, x)
        direction = sigma(self.eta, prediction.abar, abar_s)
        mean = self.mean(past, abar_s, direction)
        data = abar_s == 1
        if data.all():  # the last step adds no noise: σ(η) is 0 there by itself, σ̂ is not
            return mean.to(x.dtype), prediction, past
        spread = self.spread(prediction, abar_s, direction)
        if spread.ndim:
            spread = torch.where(data, 0.0, spread)
        z = next(self.noise, None)
        if z is None:
            raise InputError(f"solver {self.name} needs noise in every step: use ddim.sample, or choose dpm++2m")
        return (mean + spread * z).to(x.dtype), prediction, past

    def spread(self, prediction: Prediction, abar_s: Tensor, direction: Tensor) -> Tensor:
        """The deviation of the noise of a step to level ᾱ_s, a number or one for each pixel."""
        if self.variance == "small":
            return direction
        if self.variance == "large":
            return sigma_hat(prediction.abar, abar_s)
        if prediction.variance is None:
            raise InputError(UNLEARNED)
        low, high = 2 * direction.log(), 2 * sigma_hat(prediction.abar, abar_s).log()
        return (learned_log_variance(prediction.variance, low, high) / 2).exp()


# SDE-DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, section 5), which is η = 1 of `dpm++2m`.
SDE = Stochastic("sde-dpm++2m", order=2, mean=dpm2m_mean, memory=2)


def noise_of(eta: float | str, variance: str = "small") -> tuple[float, Variance]:
    """η and the variance by name; η = "hat" is an alias of η = 1 with the large variance. Raises InputError."""
    if isinstance(eta, str) and eta == "hat":
        return 1.0, "large"
    if isinstance(eta, bool) or not isinstance(eta, Real) or not math.isfinite(eta) or eta < 0:
        raise InputError(f"eta must be 0 or more, or 'hat'; got {shown(eta)}")
    if variance not in VARIANCES:
        raise InputError(f"unknown variance {shown(variance)}: choose one of {', '.join(VARIANCES)}")
    if variance != "small" and eta != 1:
        raise InputError(f"variance {variance} needs eta 1; got eta {eta:g}")
    return float(eta), variance


def check_variance(model, variance: str) -> None:
    """Raise InputError where a model is known not to have learned the variance that is asked for."""
    if variance == "learned" and not getattr(model, "learns_variance", True):
        raise InputError(UNLEARNED)


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
