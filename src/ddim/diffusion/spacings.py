"""The spacings of `ddim.schedule.times` that are whole times: functions (T, S) -> S rising times."""

import re
from collections.abc import Callable
from functools import partial
from itertools import accumulate, islice, repeat

import torch

from ddim.errors import InputError


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


def _strided_times(T: int, S: int) -> list[int]:
    """improved-diffusion's "ddimS": every so many-th 0-based index from 0, by the stride that gives S of them."""
    stride = next((i for i in range(1, T) if len(range(0, T, i)) == S), None)
    if stride is None:
        raise InputError(f"spacing ddim{S}: no whole stride over {T} levels gives {S} steps; take linear")
    return [k + 1 for k in range(0, T, stride)]


def _sectioned_times(T: int, S: int, sections: tuple[int, ...]) -> list[int]:
    """improved-diffusion's "10,15,20": as many equal sections of the levels, from the data on, the larger ones first;
    in each so many 0-based indices, evenly from its first to its last, rounded, halves to even."""
    found, start = [], 0
    for i, count in enumerate(sections):
        size = T // len(sections) + (i < T % len(sections))
        if not 1 <= count <= size:
            raise InputError(f"a section of {size} levels has from 1 to {size} steps; got {count}")
        stride = (size - 1) / (count - 1) if count > 1 else 1
        found += [start + round(at) + 1 for at in islice(accumulate(repeat(stride), initial=0.0), count)]
        start += size
    return found


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


def steps_in(name: object) -> tuple[int, ...]:
    """The numbers of steps that the name of a spacing says, ddim25 or 10,15,20; none in any other."""
    said = re.fullmatch(r"(?:ddim)?(\d{1,6})|\d{1,6}(?:,\d{1,6})+", name) if isinstance(name, str) else None
    return tuple(map(int, name.removeprefix("ddim").split(","))) if said else ()


def spelled(name: str) -> dict[str, Callable[[int, int], list[int]]]:
    """The row of a spacing whose name holds a number: leading+N, power-P with P ≥ 1, ddimN, or N,N,…; no row for any
    other name. Raises InputError for a P below 1."""
    if not isinstance(name, str):
        return {}
    if re.fullmatch(r"ddim\d{1,6}", name):
        return {name: _strided_times}
    if counts := steps_in(name):
        return {name: partial(_sectioned_times, sections=counts)}
    if offset := re.fullmatch(r"leading\+(\d{1,6})", name):
        return {name: partial(_leading_times, offset=int(offset[1]))}
    power = re.fullmatch(r"power-(\d{1,2}(?:\.\d{1,6})?)", name)
    if power and float(power[1]) < 1:
        raise InputError(f"spacing {name}: the P of power-P is at least 1; got {power[1]}")
    return {name: partial(_power_times, power=float(power[1]))} if power else {}
