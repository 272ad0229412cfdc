"""Steps that were tuned to one model: their own times, and corrections of a multistep formula."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddim.diffusion.process import Prediction, from_eps
from ddim.diffusion.schedule import Time, level
from ddim.diffusion.solvers.contract import Multistep, Solver, only
from ddim.diffusion.solvers.ddim import ddim
from ddim.diffusion.solvers.multisteps import dpm2m, dpm3m
from ddim.errors import InputError, check_whole

TUNED = "tuned"  # the name of whatever solver a model was tuned for at a number of steps
BASES: dict[str, Multistep] = {base.name: base for base in (ddim, dpm2m, dpm3m)}  # all end with x̂_0
MEMORY = 3  # predictions that a step may combine


class Taken(NamedTuple):
    """The state: how many steps were taken, and the last predictions, newest first."""

    steps: int
    past: tuple[Prediction, ...]


@dataclass(frozen=True)
class Tuned(Solver):
    """S steps on their own times, i = 0 … S−1: x_s = base(x, past, ᾱ_s) + a_i x + Σ_j b_ij x̂_0^(j), where j = 0, 1, 2
    are the last predictions, newest first, and the last step's base is x̂_0. A generalised multistep in the manner of
    arXiv 2510.17699. Down only. Without corrections it is `base` on these times.

    times: S + 1, falling from T to 0.  asked: S, the times that the network is given at these levels.
    x: the a_i, S of them.  x0: the b_ij, S times 3. All may be tensors of (N,) that carry a gradient.
    about: how it was made.  order: 0, since S is fixed.
    """

    name: str = TUNED
    order: int = 0
    times: Sequence[Time] = ()
    asked: Sequence[Time] = ()
    x: Sequence[float] | Tensor = ()
    x0: Sequence[Sequence[float]] | Tensor = ()
    base: Multistep = dpm3m
    about: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def step(self, model, x: Tensor, t: Time, s: Time, state: Taken | None):
        only(self, t, s, falling=True)
        i, past = state or Taken(0, ())
        if i >= len(self.asked) or not all(map(same, (t, s), self.times[i : i + 2])):
            raise InputError(f"solver {TUNED} for {len(self.asked)} steps walks its own times: leave out the times")
        past = (prediction_at(model, x, t, self.asked[i]), *past)[:MEMORY]
        abar = level(model.abar, s, x)
        base = past[0].x0 if (abar == 1).all() else self.base.formula(x, past, abar)
        change = self.x[i] * x + sum(b * p.x0 for b, p in zip(self.x0[i], past, strict=False))
        return (base + change).to(x.dtype), past[0], Taken(i + 1, past)


def same(t: Time, other: Time) -> bool:
    return t is other or bool(torch.as_tensor(t == other).all())


def prediction_at(model, x: Tensor, t: Time, asked: Time) -> Prediction:
    """The Prediction of x at the level of t, by the network at the time `asked`: its ε counts."""
    prediction = model(x, asked)
    if not isinstance(asked, Tensor) and asked == t:
        return prediction
    moved = from_eps(x, prediction.eps, level(model.abar, t, x))
    return moved._replace(x0=moved.x0.to(x.dtype))


@dataclass(frozen=True)
class Tuning:
    """The solvers that a model was tuned for."""

    model: str  # the fingerprint of its weights
    solvers: Mapping[int, Tuned]  # by their number of steps


def tuned(model, steps: int) -> Tuned:
    """The solver that a model was tuned for at so many steps. Raises InputError where there is none, or it is of other
    weights.
    """
    check_whole("steps", steps)
    tuning = getattr(getattr(model, "facts", None), "tuning", None)
    get = f"ddim tune MODEL --steps {steps}"
    if tuning is None or steps not in tuning.solvers:
        others = f" (there are {', '.join(map(str, sorted(tuning.solvers)))})" if tuning and tuning.solvers else ""
        raise InputError(f"this model has no tuned solver for {steps} steps{others}; `{get}` makes it")
    own = getattr(model, "model", model).fingerprint  # of the model within one with labels
    if tuning.model != own:
        raise InputError(f"solvers.json was tuned to other weights ({tuning.model}; these are {own}): `{get}` again")
    return tuning.solvers[steps]


def clip_with(solver: str | Solver, clip):
    """What is said of clipping, and without a word False for a tuned solver, which learned its numbers without."""
    return False if clip is None and isinstance(solver, Tuned) else clip


def of_model(model, solver: str | Solver, steps: int) -> str | Solver:
    """The solver itself in the place of the name "tuned"; anything else as it is. Raises InputError."""
    return tuned(model, steps) if isinstance(solver, str) and solver == TUNED else solver
