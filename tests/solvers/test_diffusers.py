"""The formulas against diffusers' schedulers, on the same levels and with the same ε, which is exact here."""

from itertools import pairwise

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    HeunDiscreteScheduler,
    IPNDMScheduler,
    UniPCMultistepScheduler,
)
from support.conformance import mixture, noises, starts

from ddim.diffusion import schedule
from ddim.diffusion.process import half_log_snr
from ddim.diffusion.schedule import level, time_at
from ddim.diffusion.solvers import dpm3m, with_noise
from ddim.diffusion.solvers.contract import multistep
from ddim.diffusion.walk import last, walk

MODEL, X = mixture(), starts((4, 1, 1, 2))
FLOAT32 = 1e-5  # of those that compute in it; the others are held to 1e-10


def sigma(t) -> float:
    return (1 / level(MODEL.abar, t) - 1).sqrt().item()


def theirs(scheduler, grid: list, noise=None, steps: int | None = None) -> torch.Tensor:
    """Where a scheduler of σ̄ carries X along a grid of times, or in the first `steps` of them."""
    scheduler.set_timesteps(len(grid) - 1)
    scheduler.sigmas = torch.tensor([sigma(t) for t in grid], dtype=torch.float64)
    scheduler.timesteps = torch.arange(len(grid) - 1, 0, -1)
    x = X
    for t, here in list(zip(scheduler.timesteps, grid[:-1], strict=True))[:steps]:
        more = {"variance_noise": next(noise)} if noise else {}
        x = scheduler.step(MODEL(x, here).eps, t, x, **more).prev_sample
    return x


def ours(grid: list, name, noise=None) -> torch.Tensor:
    return last(walk(MODEL, X, grid, with_noise(name, 0, "small", noise))).x


@pytest.mark.parametrize("S", [3, 8, 20])
@pytest.mark.parametrize("spacing", ["linear", "quadratic"])
def test_dpm_solver_2m_with_and_without_noise(S: int, spacing: str):
    grid = schedule.times(1000, S, spacing)
    plain = DPMSolverMultistepScheduler(solver_order=2, final_sigmas_type="zero")
    torch.testing.assert_close(ours(grid, "dpm++2m"), theirs(plain, grid), rtol=FLOAT32, atol=FLOAT32)
    noisy = DPMSolverMultistepScheduler(solver_order=2, final_sigmas_type="zero", algorithm_type="sde-dpmsolver++")
    expected = theirs(noisy, grid, noises(X.shape))
    torch.testing.assert_close(ours(grid, "sde-dpm++2m", noises(X.shape)), expected, rtol=FLOAT32, atol=FLOAT32)


@multistep(3)
def as_published(x, past, abar):
    """DPM-Solver++(3M) as its authors' code and diffusers have it: the curvature enters at half its weight."""
    whole = dpm3m.formula(x, past, abar)
    if len(past) < 3 or abar == 1:
        return whole
    now, before, first = (half_log_snr(p.abar) for p in past)
    h = half_log_snr(abar) - now
    bend = (past[0].x0 - past[1].x0) / (now - before) - (past[1].x0 - past[2].x0) / (before - first)
    bend = h**2 * bend / (now - first)
    return whole - abar.sqrt() * (0.5 - 1 / h - torch.expm1(-h) / h**2) * bend


def test_dpm_solver_3m_but_for_a_slip():
    """Their second difference stands for h² f″/2 where the formula wants h² f″. So theirs has order 2, and ours 3."""
    for S in (4, 10, 30):
        grid = schedule.times(1000, S, "quadratic")
        scheduler = DPMSolverMultistepScheduler(solver_order=3, final_sigmas_type="zero", lower_order_final=False)
        expected = theirs(scheduler, grid)
        torch.testing.assert_close(ours(grid, as_published), expected, rtol=FLOAT32, atol=FLOAT32)
        assert (ours(grid, "dpm++3m") - expected).abs().max() > 100 * FLOAT32


@pytest.mark.parametrize(("name", "order"), [("unipc2", 2), ("unipc3", 3)])
def test_unipc(name: str, order: int):
    """Up to the last step but one, after which theirs lowers its order and ours does not."""
    for S in (4, 12):
        grid = schedule.times(1000, S, "quadratic")
        scheduler = UniPCMultistepScheduler(solver_order=order, solver_type="bh2", final_sigmas_type="zero")
        expected = theirs(scheduler, grid, steps=S - 2)
        torch.testing.assert_close(ours(grid[: S - 1], name), expected, rtol=1e-10, atol=1e-10)


def test_dpm_solver_2s():
    """Theirs takes the middles from its grid: every second level, even in λ between its neighbours."""
    grid = [900, 600, 300, 100]
    pairs = [torch.stack([level(MODEL.abar, t) for t in pair]) for pair in pairwise(grid)]
    between = [time_at(MODEL.abar, pair.logit().mean().sigmoid()) for pair in pairs]
    fine = [t for pair in zip(grid, between, strict=False) for t in pair] + [grid[-1]]
    scheduler = DPMSolverSinglestepScheduler(solver_order=2, lower_order_final=False, final_sigmas_type="sigma_min")
    torch.testing.assert_close(ours(grid, "dpm++2s"), theirs(scheduler, fine), rtol=1e-10, atol=1e-10)


def test_heun():
    """In their variable x̄; the second call of a step asks at its end."""
    grid = schedule.times(1000, 6, "quadratic")
    scheduler = HeunDiscreteScheduler()
    scheduler.set_timesteps(6)
    sigmas = [sigma(t) for t in grid]
    scheduler.sigmas = torch.tensor([sigmas[0], *(s for s in sigmas[1:-1] for _ in (0, 1)), 0], dtype=torch.float64)
    asked = [grid[0], *(t for t in grid[1:-1] for _ in (0, 1))]
    scheduler.timesteps = torch.arange(len(asked), 0, -1)
    x = X / level(MODEL.abar, 1000).sqrt()
    for t, here in zip(scheduler.timesteps, asked, strict=True):
        x = scheduler.step(MODEL(x * level(MODEL.abar, here).sqrt(), here).eps, t, x).prev_sample
    torch.testing.assert_close(ours(grid, "heun"), x, rtol=1e-10, atol=1e-10)


def test_ipndm():
    """Theirs takes ε to be sample·β + output·α, with α and β for √ᾱ and √(1−ᾱ)."""
    grid = schedule.times(1000, 9)
    scheduler = IPNDMScheduler()
    scheduler.set_timesteps(9)
    levels = torch.stack([level(MODEL.abar, t) for t in grid])
    scheduler.alphas, scheduler.betas = levels.sqrt(), (1 - levels).sqrt()
    scheduler.timesteps = torch.arange(9, 0, -1)
    x = X
    for i, t in enumerate(scheduler.timesteps):
        output = (MODEL(x, grid[i]).eps - x * scheduler.betas[i]) / scheduler.alphas[i]
        x = scheduler.step(output, t, x).prev_sample
    torch.testing.assert_close(ours(grid, "ipndm"), x, rtol=1e-9, atol=1e-9)
