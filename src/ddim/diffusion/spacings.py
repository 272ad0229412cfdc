"""The spacings of `ddim.schedule.times` that are whole times: functions (T, S) -> S rising times."""

import re
from collections.abc import Callable
from functools import partial

import torch


def _linear_times(T: int, S: int) -> list[int]:
    """τ_i = ⌊c i⌋ with c = T/S (paper, D.2)."""
    return [T * i // S for i in range(1, S + 1)]


def _quadratic_times(T: int, S: int) -> list[int]:
    """τ_i = ⌊c i²⌋ with c = T/S² (paper, D.2).

    Near 0 the parabola is flatter than one time a step; there the grid walks i itself, so that all S times are
    distinct. It leaves that line for good at i = 1/c, after which ⌊c i²⌋ rises by at least one a step.
    """
    return [max(T * i * i // S**2, i) for i in range(1, S + 1)]


def _power_times(T: int, S: int, power: float) -> list[int]:
    """τ_i = ⌊T (i/S)^p⌋, or i where that is more: p = 1 is the linear grid, p = 2 the quadratic one."""
    if power in (1, 2):
        return (_linear_times if power == 1 else _quadratic_times)(T, S)
    return [max(int(T * (i / S) ** power + 1e-9), i) for i in range(1, S + 1)]


def _official_linear_times(T: int, S: int) -> list[int]:
    """The official code's `range(0, T, T // S)` of 0-based indices. Longer than S when S does not divide T."""
    return [k + 1 for k in range(0, T, T // S)]


def _official_quadratic_times(T: int, S: int) -> list[int]:
    """The official code's `int(linspace(0, √(0.8 T), S)²)` of 0-based indices, repeats dropped. Tops out at 0.8 T."""
    roots = torch.linspace(0, (0.8 * T) ** 0.5, S, dtype=torch.float64)
    return sorted({int(root**2) + 1 for root in roots.tolist()})


def _leading_times(T: int, S: int, offset: int = 0) -> list[int]:
    """diffusers' "leading": 0-based indices i ⌊T/S⌋, all moved up by its `steps_offset`."""
    return [T // S * i + 1 + offset for i in range(S)]


def _trailing_times(T: int, S: int) -> list[int]:
    """diffusers' "trailing": T, T − T/S, … rounded, halves to even. The linear grid wherever S divides T."""
    step = (T - T / S) - T  # as numpy.arange rounds it
    return [t for i in reversed(range(S)) if (t := round(T + i * step)) > 0]


def _linspace_times(T: int, S: int) -> list[int]:
    """diffusers' "linspace": S 0-based indices evenly from 0 to T−1, rounded, halves to even."""
    return [round((T - 1) / max(S - 1, 1) * i) + 1 for i in range(S)]


SPACINGS: dict[str, Callable[[int, int], list[int]]] = {
    "linear": _linear_times,
    "quadratic": _quadratic_times,
    "power-1.5": partial(_power_times, power=1.5),
    "official-linear": _official_linear_times,
    "official-quadratic": _official_quadratic_times,
    "leading": _leading_times,
    "leading+1": partial(_leading_times, offset=1),
    "trailing": _trailing_times,
    "linspace": _linspace_times,
}


def spelled(name: str) -> dict[str, Callable[[int, int], list[int]]]:
    """The row of a spacing whose name holds a number, leading+N or power-P with P ≥ 1; no row for any other name."""
    if not isinstance(name, str):
        return {}
    if offset := re.fullmatch(r"leading\+(\d{1,6})", name):
        return {name: partial(_leading_times, offset=int(offset[1]))}
    power = re.fullmatch(r"power-(\d{1,2}(?:\.\d{1,6})?)", name)
    return {name: partial(_power_times, power=float(power[1]))} if power and float(power[1]) >= 1 else {}
