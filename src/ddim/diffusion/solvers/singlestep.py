"""Solvers that evaluate more than once within a step, or once, and remember nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddim.diffusion.process import from_x0, marginal
from ddim.diffusion.schedule import Time, level, time_at
from ddim.diffusion.solvers.contract import Solver, count
from ddim.errors import InputError


@dataclass(frozen=True)
class Heun(Solver):
    """Heun's method for dx̄ = ε dσ̄ (14): a DDIM step, then the step again with the mean of ε at both its ends (Karras
    et al. 2022, algorithm 1). Order 2, two evaluations a step; one into the data, where ε has no meaning. Up and down.
    """

    name: str = "heun"
    order: int = 2

    def step(self, model, x: Tensor, t: Time, s: Time, state: None):
        prediction, abar_s = model(x, t), level(model.abar, s, x)
        abar_t = prediction.abar
        signal(self, abar_t)
        euler = marginal(prediction.x0, prediction.eps, abar_s).to(x.dtype)
        data = abar_s == 1  # 0-dim, or (N, 1, 1, 1)
        if data.all():
            return euler, prediction, None
        eps = (prediction.eps + model(euler, s).eps) / 2
        a = (abar_s / abar_t).sqrt()
        x = (a * x + ((1 - abar_s).sqrt() - a * (1 - abar_t).sqrt()) * eps).to(x.dtype)  # (13) with the mean ε
        return torch.where(data, euler, x), prediction, None

    def evaluations(self, times: Sequence[Time], state: Any = None) -> int:
        return count(times, lambda t, s: 1 if not torch.as_tensor(s > 0).any() else 2)


@dataclass(frozen=True)
class DPM2S(Solver):
    """DPM-Solver++(2S) (Lu et al. 2022, arXiv 2211.01095, algorithm 1 with r = 1/2): a DDIM step to the middle in λ,
    then the whole step with the x̂_0 found there. Order 2, two evaluations a step; one from or into the data, where λ is
    infinite: that step is DDIM's. Up and down.
    """

    name: str = "dpm++2s"
    order: int = 2

    def step(self, model, x: Tensor, t: Time, s: Time, state: None):
        prediction, abar_s = model(x, t), level(model.abar, s, x)
        abar_t = prediction.abar
        signal(self, abar_t, abar_s)
        euler = marginal(prediction.x0, prediction.eps, abar_s).to(x.dtype)
        data = (abar_t == 1) | (abar_s == 1)  # 0-dim, or (N, 1, 1, 1)
        if data.all():
            return euler, prediction, None
        middle = ((abar_t.logit() + abar_s.logit()) / 2).sigmoid()
        middle = torch.where(data, abar_s, middle)
        halfway = marginal(prediction.x0, prediction.eps, middle).to(x.dtype)
        better = from_x0(x, model(halfway, time_at(model.abar, middle)).x0, abar_t)
        x = marginal(better.x0, better.eps, abar_s).to(x.dtype)
        return torch.where(data, euler, x), prediction, None

    def evaluations(self, times: Sequence[Time], state: Any = None) -> int:
        return count(times, lambda t, s: 2 if (torch.as_tensor(t > 0) & torch.as_tensor(s > 0)).any() else 1)


@dataclass(frozen=True)
class EulerT(Solver):
    """Euler's step in dt for the probability-flow ODE (15), which the paper sets beside its own in dσ̄:
    x̄_s = x̄_t + ½ (σ̄_s² − σ̄_t²) ε/σ̄_t. Order 1, one evaluation a step. Into the data too, where it goes half of the
    way, so that the last step must be short; not from the data, where it divides by σ̄ = 0.
    """

    name: str = "euler-t"
    order: int = 1

    def step(self, model, x: Tensor, t: Time, s: Time, state: None):
        if not torch.as_tensor(t > 0).all():
            raise InputError(f"solver {self.name} cannot leave the data, so it is not for encoding; choose ddim")
        prediction, abar_s = model(x, t), level(model.abar, s, x)
        abar_t = prediction.abar
        signal(self, abar_t, abar_s)
        change = ((1 - abar_s) / abar_s - (1 - abar_t) / abar_t) / 2 * (abar_t / (1 - abar_t)).sqrt()
        return (abar_s.sqrt() * (x / abar_t.sqrt() + change * prediction.eps)).to(x.dtype), prediction, None


def signal(solver: Solver, *levels: Tensor) -> None:
    """Raise InputError where a step would divide by a signal level of 0."""
    if any((abar == 0).any() for abar in levels):
        raise InputError(f"solver {solver.name} cannot leave a level without any signal; choose ddim")
