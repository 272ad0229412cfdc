"""Noise schedules, the level at any time, and time grids.

A schedule is one float64 vector `abar` of T+1 signal levels, with `abar[0] == 1` (data). A time grid is a falling list
of distinct times that ends at 0. The network's own index is t−1, which appears only where a network is called.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from numbers import Integral, Real

import torch
from torch import Tensor

from ddim.diffusion.spacings import SPACINGS, spelled, steps_in
from ddim.errors import InputError, check_whole, choose, listed, shown
from ddim.system.machine import widest

Time = int | float | Tensor  # a time in 0..T, also between the integers; or (N,), a time per image


def from_betas(betas: Tensor) -> Tensor:
    """abar from β_1..β_T: ᾱ_t = ∏_{i≤t} (1 − β_i). (T,) -> (T+1,) float64."""
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas.double()).cumprod(0)])


def linear(T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> Tensor:
    """DDPM's schedule, and the paper's: β linear from `beta_1` to `beta_T`. Returns (T+1,) float64."""
    return from_betas(torch.linspace(beta_1, beta_T, T, dtype=torch.float64))


def scaled_linear(T: int = 1000, beta_1: float = 8.5e-4, beta_T: float = 0.012) -> Tensor:
    """√β linear (latent diffusion, Rombach et al. 2022). Returns (T+1,) float64."""
    return from_betas(torch.linspace(beta_1**0.5, beta_T**0.5, T, dtype=torch.float64) ** 2)


def cosine(T: int = 1000, offset: float = 0.008, beta_max: float = 0.999) -> Tensor:
    """ᾱ_t ∝ cos²((t/T + offset)/(1 + offset)·π/2), β at most `beta_max` (Nichol & Dhariwal 2021, eq. 17).

    Returns (T+1,) float64.
    """
    angle = (torch.linspace(0, 1, T + 1, dtype=torch.float64) + offset) / (1 + offset) * math.pi / 2  # (T+1,)
    level = angle.cos() ** 2
    return from_betas((1 - level[1:] / level[:-1]).clamp(max=beta_max))


SCHEDULES: dict[str, Callable[..., Tensor]] = {"linear": linear, "scaled-linear": scaled_linear, "cosine": cosine}


def check_time(T: int, t: Time) -> Time:
    """A time in 0..T as an int where it is whole, else as a float; or (N,) as float64. Raises InputError."""
    if isinstance(t, Tensor) and t.ndim == 1:
        t = t.to("cpu", torch.float64)  # with its gradient
        if not ((t >= 0) & (t <= T)).all():  # NaN is outside too
            raise InputError(f"t must be from 0 to {T}; got {t[~((t >= 0) & (t <= T))][0].item():g}")
        return t
    if isinstance(t, Tensor) and t.ndim == 0:
        t = t.item()
    if isinstance(t, bool) or not isinstance(t, Real):
        raise InputError(f"t must be a number from 0 to {T}, or one for each image; got {shown(t)}")
    if not 0 <= t <= T:
        raise InputError(f"t must be from 0 to {T}; got {t}")
    return int(t) if isinstance(t, Integral) or float(t).is_integer() else float(t)


def level(abar: Tensor, t: Time, like: Tensor | None = None) -> Tensor:
    """The signal level ᾱ at a time that `check_time` has passed: 0-dim float64 on the CPU, exactly `abar[t]` at a whole
    t. For (N,) times, (N, 1, 1, 1) on the device of `like`.

    Between the integers of [1, T] the log-SNR is linear in t; on [0, 1], where it is infinite at one end, σ̄ is linear.
    Raises InputError between the last two times of a schedule that ends without any signal.
    """
    if isinstance(t, int):
        return abar[t]
    between = torch.as_tensor(t, dtype=torch.float64)
    low = between.floor().long().clamp(max=len(abar) - 2)
    part = between - low  # in [0, 1]
    if abar[-1] == 0 and ((between > len(abar) - 2) & (between < len(abar) - 1)).any():
        raise InputError(f"this schedule ends without signal: no time between {len(abar) - 2} and {len(abar) - 1}")
    snr = (abar / (1 - abar)).log()  # (T+1,) log-SNR, infinite at 0
    found = torch.lerp(snr[low.clamp(min=1)], snr[low + 1], part).sigmoid()
    sigma = part * (1 / abar[1] - 1).sqrt()  # σ̄ on [0, 1]
    found = torch.where(low == 0, 1 / (1 + sigma**2), found)
    found = torch.where(part == 0, abar[low], torch.where(part == 1, abar[low + 1], found))
    if found.ndim == 0:
        return found
    found = found[:, None, None, None]  # (N, 1, 1, 1)
    if like is None or like.device.type == "cpu":
        return found
    return found.to(like.device, widest(like.device))


def time_at(abar: Tensor, wanted: Tensor) -> Time:
    """The time whose level is `wanted`, 0-dim or (N, 1, 1, 1): the inverse of `level`, as an int, a float or (N,)."""
    found = wanted.detach().to("cpu", torch.float64).flatten()
    low = (torch.searchsorted(-abar, -found, right=True) - 1).clamp(0, len(abar) - 2)
    snr = (abar / (1 - abar)).log()  # (T+1,) log-SNR, infinite at 0
    part = (snr[low] - found.logit()) / (snr[low] - snr[low + 1])
    part = torch.where(low == 0, ((1 / found - 1) / (1 / abar[1] - 1)).sqrt(), part)
    t = torch.where(abar[low] == found, low, torch.where(abar[low + 1] == found, low + 1, low + part))
    t = torch.where((t - t.round()).abs() < 1e-9, t.round(), t)  # rounding does not make a whole time a broken one
    return check_time(len(abar) - 1, t if wanted.ndim else t[0])


def times(T: int, steps: int, spacing: str = "linear") -> list[int]:
    """The grid τ_S > … > τ_1 > τ_0 = 0 for `steps` network evaluations out of T levels (paper, section 4.2 and D.2).

    spacing: a name of `SPACINGS`, all of whole times. `linear`, `quadratic` and `power-P`, which is T (i/S)^P for any P
    of 1 or more, start at T and are `steps + 1` long for every 1 ≤ steps ≤ T. The `official-` grids reproduce the
    official code's indices exactly, and may be longer or shorter. `leading`, `trailing` and `linspace` are diffusers';
    "leading+1" is `leading` with a `steps_offset` of 1, and so on. `ddim25` and `10,15,20` are improved-diffusion's,
    and say the number of steps themselves. For the spacings of levels see `grid`. InputError.
    """
    said = sum(steps_in(spacing))
    spread = choose("spacing", spacing, {**SPACINGS, **LEVEL_SPACINGS, **spelled(spacing)})
    check_whole("steps", steps, -math.inf)
    if not 1 <= steps <= T:
        raise InputError(f"steps must be from 1 to {T}, the model's number of noise levels; got {steps}")
    if spacing in LEVEL_SPACINGS:
        raise InputError(f"spacing {spacing} depends on the noise schedule: call ddim.schedule.grid with its abar")
    if said not in (0, steps):
        raise InputError(f"spacing {spacing} has {said} steps; got {steps}: give {said}, or another spacing")
    found = spread(T, steps)
    if found[-1] > T:
        raise InputError(f"spacing {spacing} with {steps} steps begins at {found[-1]}, above the model's T of {T}")
    return [*reversed(found), 0]


def even_levels(abar: Tensor, S: int, rho: float = math.inf) -> list[Time]:
    """S falling times from T to 1, evenly spread in σ̄^(1/ρ); for ρ = ∞ in log σ̄, that is in log-SNR. Not rounded.

    Where the schedule ends without any signal, those after T are spread from T−1.
    """
    T = len(abar) - 1
    if abar[T] == 0:
        return [T, *even_levels(abar[:-1], S - 1, rho)] if S > 1 else [T]
    first, last = (1 / abar[T] - 1).sqrt(), (1 / abar[1] - 1).sqrt()  # σ̄
    part = torch.linspace(0, 1, S, dtype=torch.float64)
    if math.isinf(rho):
        sigma = torch.lerp(first.log(), last.log(), part).exp()
    else:
        sigma = torch.lerp(first ** (1 / rho), last ** (1 / rho), part) ** rho
    return [time_at(abar, level) for level in 1 / (1 + sigma**2)]


LEVEL_SPACINGS: dict[str, Callable[[Tensor, int], list[Time]]] = {
    "log-snr": even_levels,  # Lu et al. 2022, arXiv 2206.00927, section 3.4
    "karras": partial(even_levels, rho=7.0),  # Karras et al. 2022, arXiv 2206.00364, eq. 5
}


def check_times(T: int, times: Sequence[Time]) -> list[Time]:
    """A grid given by hand: at least two times within 0..T, strictly falling. Returns it as a list, or InputError."""
    grid = listed("times", times)
    if len(grid) < 2:
        raise InputError(f"times needs at least two entries, a start and an end; got {grid}")
    if outside := [t for t in grid if isinstance(t, Real) and not 0 <= t <= T]:
        raise InputError(f"times must lie in 0..{T}; got {outside[0]}")
    grid = [check_time(T, t) for t in grid]
    if rising := next(((t, s) for t, s in pairwise(grid) if not torch.as_tensor(s < t).all()), None):
        raise InputError(f"times must fall; got {rising[0]} followed by {rising[1]}")
    return grid


def grid(abar: Tensor, steps: int, spacing: str = "linear", given: Sequence[Time] | None = None) -> list[Time]:
    """The falling time grid over a schedule: the times `given` (checked), else `steps` intervals by `spacing`.

    spacing: as for `times`; or of `LEVEL_SPACINGS`, which start at T, end at 1 and 0, and are not rounded: `log-snr`
    has equal steps in log-SNR, `karras` in σ̄^(1/7). Raises InputError.
    """
    T = len(abar) - 1
    if given is not None:
        return check_times(T, given)
    if spacing in LEVEL_SPACINGS and 1 <= steps <= T:
        return [*LEVEL_SPACINGS[spacing](abar, steps), 0]
    return times(T, steps, spacing)
