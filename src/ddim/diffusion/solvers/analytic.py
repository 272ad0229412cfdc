"""The analytical first step: what a network would say of pure noise is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from ddim.diffusion.process import Prediction
from ddim.diffusion.schedule import Time, level
from ddim.diffusion.solvers.adaptive import Adaptive
from ddim.diffusion.solvers.contract import Solver, only
from ddim.errors import InputError

NOISE = 0.02  # the most signal ᾱ that still counts as noise alone


class Started(NamedTuple):
    """The state of a walk whose first step is taken: that of the solver within."""

    within: Any


@dataclass(frozen=True)
class Known:
    """A model that knows its first answer: at a level of noise alone, ε is x ("AFS", Dockhorn et al. 2022, arXiv
    2210.05475). Every other question goes to the model itself.
    """

    model: "Denoiser"  # noqa: F821
    first: Time

    @property
    def abar(self) -> Tensor:
        return self.model.abar

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        if t is not self.first:
            return self.model(x, t)
        abar = level(self.abar, t, x)
        x0 = abar.sqrt() / (1 + (1 - abar).sqrt()) * x  # (9) with ε = x
        return Prediction(x0.to(x.dtype), x, abar)


@dataclass(frozen=True)
class AnalyticalFirst(Solver):
    """Any solver, with ε = x_T in the place of the first evaluation: one less a walk. Down only, from noise alone.

    Named `SOLVER+afs`. The first prediction is not clipped: its x̂_0 is near 0.
    """

    solver: Solver

    def step(self, model, x: Tensor, t: Time, s: Time, state: Started | None):
        only(self, t, s, falling=True)
        if state is None:
            if (level(model.abar, t) > NOISE).any():
                raise InputError(f"solver {self.name} starts at noise alone, not at time {t}: use {self.solver.name}")
            model = Known(model, t)
        x, prediction, within = self.solver.step(model, x, t, s, state.within if state else None)
        return x, prediction, Started(within)

    def evaluations(self, times: Sequence[Time], state: Started | None = None) -> int | None:
        within = self.solver.evaluations(times, state.within if state else None)
        return within if within is None or state else within - 1


def afs(solver: Solver) -> AnalyticalFirst:
    """The solver with the analytical first step. Raises InputError where the first step is not one of the grid's."""
    if isinstance(solver, Adaptive):
        raise InputError(f"solver {solver.name} chooses its own steps and takes no +afs")
    return AnalyticalFirst(f"{solver.name}+afs", solver.order, solver)
