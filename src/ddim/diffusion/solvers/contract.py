"""The contract of a solver: a value that says how to take one step, with its state in the open."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ddim.diffusion.process import Prediction
from ddim.diffusion.schedule import Time, level
from ddim.errors import InputError, shown

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
        x_s = self.formula(x, past, level(model.abar, s, x))
        if not isinstance(x_s, Tensor) or x_s.shape != x.shape:
            got = tuple(x_s.shape) if isinstance(x_s, Tensor) else shown(x_s)
            raise InputError(f"the formula of solver {self.name} returned {got}: {FORM}, {tuple(x.shape)} here")
        return x_s.to(x.dtype), past[0], past


FORM = "it takes (x, past, abar_s) and returns x_s, a tensor of the shape of x"


def takes_three(formula: Formula) -> bool:
    """Whether a formula can be called with three arguments in their order."""
    try:
        inspect.signature(formula).bind(None, None, None)
    except TypeError:  # other arguments, or no function
        return False
    except ValueError:  # of a builtin, which does not say
        return True
    return True


def multistep(memory: int, order: int | None = None, name: str | None = None) -> Callable[[Formula], Multistep]:
    """Makes a formula (x, past, abar_s) -> x_s a solver that evaluates once a step.

    past: the last predictions, newest first, at most `memory` of them and fewer at the start of a walk.
    order: by default `memory`. Raises InputError, also where the formula takes other arguments.
    """
    if isinstance(memory, bool) or not isinstance(memory, int) or memory < 1:
        raise InputError(f"multistep takes how many predictions it keeps: @ddim.multistep(1); got {shown(memory)}")

    def make(formula: Formula) -> Multistep:
        if not takes_three(formula):
            raise InputError(f"the formula {name or getattr(formula, '__name__', '')} takes other arguments: {FORM}")
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
