"""Multistep solvers: one evaluation a step, and the predictions before it for the order.

Each is DDIM's step (12) plus a correction: of ε, in the variable σ̄ = √((1−ᾱ)/ᾱ), or of x̂_0, in λ = −log σ̄. A walk
starts with the lower orders, for want of predictions: its first step is DDIM's. All go up and down.

In σ̄ the data are a place like others (σ̄ = 0). λ is infinite there, so in λ the steps from and into the data are DDIM's,
and what was predicted at the data is not used. So it is for all of them at a level without any signal.
"""

import torch
from torch import Tensor

from ddim.diffusion.process import Prediction, half_log_snr, marginal, posterior_mean, sigma_bar
from ddim.diffusion.solvers.contract import multistep

IPNDM = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def with_eps(past: tuple[Prediction, ...], change: Tensor | float, abar: Tensor) -> Tensor:
    """x̄_s = x̄_t + (σ̄_s − σ̄_t)(ε + change): DDIM's step (13) with another ε, which x̂_0 follows."""
    here = past[0]
    scale = (1 - abar).sqrt() - abar.sqrt() * ((1 - here.abar) / here.abar).sqrt()  # √ᾱ_s (σ̄_s − σ̄_t)
    return marginal(here.x0, here.eps, abar) + scale * change


@multistep(2)
def ab2(x: Tensor, past: tuple[Prediction, ...], abar: Tensor) -> Tensor:
    """Adams–Bashforth over variable steps in σ̄, ρAB-DEIS (Zhang & Chen 2022, arXiv 2204.13902):
    the mean over the step of the line through the last two ε.
    """
    if len(past) == 1:
        return marginal(past[0].x0, past[0].eps, abar)
    here, before = past[:2]
    share = (sigma_bar(abar) - sigma_bar(here.abar)) / (sigma_bar(here.abar) - sigma_bar(before.abar)) / 2
    return with_eps(past, finite(share) * (here.eps - before.eps), abar)


@multistep(3)
def ab3(x: Tensor, past: tuple[Prediction, ...], abar: Tensor) -> Tensor:
    """As `ab2`, through the last three ε: ε_0 + h δ_1/2 + (h²/3 + h (σ̄_0 − σ̄_1)/2) δ_2, δ the divided differences."""
    if len(past) < 3:
        return ab2.formula(x, past, abar)
    first, second, third = (sigma_bar(p.abar) for p in past)
    h = sigma_bar(abar) - first
    slope = (past[0].eps - past[1].eps) / (first - second)
    bend = (slope - (past[1].eps - past[2].eps) / (second - third)) / (first - third)
    return with_eps(past, finite(h / 2) * slope + finite(h * h / 3 + h * (first - second) / 2) * bend, abar)


@multistep(4)
def ipndm(x: Tensor, past: tuple[Prediction, ...], abar: Tensor) -> Tensor:
    """Adams–Bashforth with the coefficients of equal steps, whatever the steps (Liu et al. 2022, arXiv 2202.09778, eq.
    12; started by lower orders as in Zhang & Chen 2022). Order 4 where the steps are equal in σ̄, and there alone.
    """
    if len(past) == 1:
        return marginal(past[0].x0, past[0].eps, abar)
    weights = IPNDM[len(past) - 1]
    return with_eps(past, sum(w * p.eps for w, p in zip(weights, past, strict=True)) - past[0].eps, abar)


@multistep(2, name="dpm++2m")
def dpm2m(x: Tensor, past: tuple[Prediction, ...], abar: Tensor) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2): DDIM's step with x̂_0 of the middle of the step
    in λ, on the line through the last two x̂_0.
    """
    return dpm2m_mean(past, abar, abar.new_zeros(()))


def dpm2m_mean(past: tuple[Prediction, ...], abar: Tensor, sigma: Tensor) -> Tensor:
    """The same where noise of deviation `sigma` follows: the mean of q_σ (7) for that x̂_0. With σ(1) (16) it is the one
    of SDE-DPM-Solver++(2M) (the same paper, section 5).
    """
    mean = posterior_mean(past[0], abar, sigma)
    if len(past) == 1:
        return mean
    here, before = past[:2]
    share = (half_log_snr(abar) - half_log_snr(here.abar)) / (half_log_snr(here.abar) - half_log_snr(before.abar)) / 2
    return mean + finite(weight_of_x0(here.abar, abar, sigma) * share) * (here.x0 - before.x0)


@multistep(3, name="dpm++3m")
def dpm3m(x: Tensor, past: tuple[Prediction, ...], abar: Tensor) -> Tensor:
    """The same of order 3, DPM-Solver++(3M): x̂_0 on the parabola through the last three, weighted by e^λ over the step
    (Lu et al. 2022, arXiv 2211.01095, proposition 4.1 and its expansion for k = 3).
    """
    if len(past) < 3:
        return dpm2m.formula(x, past, abar)
    now, before, first = (half_log_snr(p.abar) for p in past)
    h = half_log_snr(abar) - now
    r, q = (now - before) / h, (before - first) / h  # the two steps before, in units of this one
    m_1 = 1 / -torch.expm1(-h) - 1 / h  # the mean of u = (λ − λ_t)/h, weighted by e^λ
    m_2 = 1 / -torch.expm1(-h) - 2 / h * m_1  # and of u²
    # Newton's parabola through the nodes 0, −r and −r−q of u: its second coefficient has the mean of u (u + r).
    bend = (m_2 + r * m_1) / (r + q)
    weight = weight_of_x0(past[0].abar, abar, abar.new_zeros(()))
    newer, older = finite(weight * (m_1 + bend) / r), finite(weight * bend / q)
    change = newer * (past[0].x0 - past[1].x0) - older * (past[1].x0 - past[2].x0)
    return marginal(past[0].x0, past[0].eps, abar) + change


def weight_of_x0(abar_t: Tensor, abar_s: Tensor, sigma: Tensor) -> Tensor:
    """What a step from t to s, with x kept, multiplies x̂_0 by: √ᾱ_s − √(1−ᾱ_s−σ²) √ᾱ_t/√(1−ᾱ_t)."""
    return abar_s.sqrt() - ((1 - abar_s - sigma**2) * abar_t / (1 - abar_t)).sqrt()


def finite(weight: Tensor) -> Tensor:
    """A weight, and 0 where it is none because λ or σ̄ is infinite."""
    return torch.where(weight.isfinite(), weight, 0.0)
