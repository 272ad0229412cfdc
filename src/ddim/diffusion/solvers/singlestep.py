"""Solvers that evaluate more than once within a step and remember nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddim.diffusion.process import marginal
from ddim.diffusion.schedule import Time, level
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
        if (abar_t == 0).any():
            raise InputError("solver heun cannot leave a level without any signal; choose ddim")
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
