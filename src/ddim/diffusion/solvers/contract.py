"""The contract of a solver: a value that says how to take one step, with its state in the open."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ddim.diffusion.process import Prediction
from ddim.diffusion.schedule import Time, level
from ddim.errors import InputError

Formula = Callable[[Tensor, tuple[Prediction, ...], Tensor], Tensor]


@dataclass(frozen=True)
class Solver:
    """One way to carry x from time t to time s. Solvers are values: what changes during a walk is its state.

    order: the global error of the deterministic walk falls as S^-order.
    """

    name: str
    order: int

    def step(self, model, x: Tensor, t: Time, s: Time, state: Any) -> tuple[Tensor, Prediction, Any]:
        """x (N, C, H, W) at s, the network's Prediction at t, and the state for the next step (None before the first).

        Raises InputError where the solver cannot take this step.
        """
        raise NotImplementedError

    def evaluations(self, times: Sequence[Time], state: Any = None) -> int | None:
        """Network evaluations of a walk along `times` from `state`; None where only the walk itself shows them."""
        return len(times) - 1


@dataclass(frozen=True)
class Multistep(Solver):
    """One evaluation a step, and a formula over the last `memory` predictions, which are its state."""

    formula: Formula
    memory: int = 1

    def step(self, model, x: Tensor, t: Time, s: Time, state: tuple[Prediction, ...] | None):
        past = (model(x, t), *(state or ()))[: self.memory]  # newest first
        return self.formula(x, past, level(model.abar, s, x)).to(x.dtype), past[0], past


def multistep(memory: int, order: int | None = None, name: str | None = None) -> Callable[[Formula], Multistep]:
    """Makes a formula (x, past, abar_s) -> x_s a solver that evaluates once a step.

    past: the last predictions, newest first, at most `memory` of them and fewer at the start of a walk.
    order: by default `memory`.
    """

    def make(formula: Formula) -> Multistep:
        return Multistep(name or formula.__name__, order or memory, formula, memory)

    return make


def falls(t: Time, s: Time) -> bool:
    """Whether a step leads towards the data."""
    return bool(torch.as_tensor(s < t).all())


def only(solver: Solver, t: Time, s: Time, *, falling: bool) -> None:
    """Raise InputError unless a step goes the one way that a solver can."""
    if falls(t, s) != falling:
        way, other = ("down", "encoding") if falling else ("up", "sampling")
        raise InputError(f"solver {solver.name} walks {way} only, so it is not for {other}; choose ddim")


def count(times: Sequence[Time], cost: Callable[[Time, Time], int]) -> int:
    """The sum of a cost over the steps of `times`."""
    return sum(cost(t, s) for t, s in pairwise(times))
