"""Predictor–corrector solvers: the evaluation that a step begins with also corrects the step before."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ddim.diffusion.process import Prediction, from_x0, half_log_snr, marginal
from ddim.diffusion.schedule import Time, level
from ddim.diffusion.solvers.contract import Solver


class Corrected(NamedTuple):
    """UniPC's state: x as corrected at the time left last, and the predictions made so far, newest first."""

    x: Tensor
    past: tuple[Prediction, ...]


@dataclass(frozen=True)
class UniPC(Solver):
    """UniPC-p in x̂_0, B(h) = e^−h − 1 (Zhao et al. 2023, arXiv 2302.04867, algorithms 5 to 8), λ = half log-SNR.

    predictions: p, how many a step combines: 2 in `unipc`, 3 in `unipc3`. The corrector lifts the order to p + 1.
    One evaluation a step: x̂_0 at the new point first corrects the way there. Steps from or into the data, and the first
    of a walk, are DDIM's; what the last step leads to is not corrected. Up and down.
    """

    name: str = "unipc"
    order: int = 3
    predictions: int = 2

    def step(self, model, x: Tensor, t: Time, s: Time, state: Corrected | None):
        prediction = model(x, t)
        if state is not None and usable(prediction.abar, state.past[0].abar):
            x = self.advance(state.x, state.past, prediction.abar, prediction.x0).to(x.dtype)
            prediction = from_x0(x, prediction.x0, prediction.abar)
        past = (prediction, *(state.past if state else ()))[: self.predictions]
        return self.advance(x, past, level(model.abar, s, x)).to(x.dtype), prediction, Corrected(x, past)

    def advance(self, x: Tensor, past: tuple[Prediction, ...], abar: Tensor, x0: Tensor | None = None) -> Tensor:
        """From x at the level of past[0] to level `abar`: the predictor, or with x̂_0 known there, the corrector."""
        here = past[0]
        base = marginal(here.x0, here.eps, abar)  # order 1
        if not usable(abar, here.abar):
            return base
        h = half_log_snr(abar) - half_log_snr(here.abar)
        older = [p for p in past[1:] if usable(p.abar)]
        r = [(half_log_snr(p.abar) - half_log_snr(here.abar)) / h for p in older]
        slopes = [(p.x0 - here.x0) / r_i for p, r_i in zip(older, r, strict=True)]
        if x0 is not None:
            r, slopes = [*r, torch.ones_like(h)], [*slopes, x0 - here.x0]
        if not slopes:
            return base
        weights = unified(h, r)
        correction = sum(w * slope for w, slope in zip(weights, slopes, strict=True))
        return base - abar.sqrt() * torch.expm1(-h) * correction


def unified(h: Tensor, r: list[Tensor]) -> list[Tensor]:
    """UniPC's weights a_1..a_p: Σ_i a_i r_i^(k−1) = k! φ_{k+1}(−h)/B(h)·…, from the expansion of the integral.

    With a single slope both predictor and corrector take 1/2, which the paper shows keeps their order.
    """
    if len(r) == 1:
        return [torch.full_like(h, 0.5)]
    b, phi = [], torch.expm1(-h) / -h - 1
    for k in range(1, len(r) + 1):
        b.append(phi * math.factorial(k) / torch.expm1(-h))
        phi = phi / -h - 1 / math.factorial(k + 1)
    powers = torch.stack([torch.stack([r_i ** (k - 1) for r_i in r], -1) for k in range(1, len(r) + 1)], -2)
    return list(torch.linalg.solve(powers, torch.stack(b, -1)).unbind(-1))


def usable(*levels: Tensor) -> bool:
    """Whether λ is finite at these levels."""
    return all(bool(((abar > 0) & (abar < 1)).all()) for abar in levels)
