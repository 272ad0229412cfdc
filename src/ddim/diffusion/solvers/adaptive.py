"""Steps as long as a tolerance allows, for each image by itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddim.diffusion.process import Prediction, half_log_snr
from ddim.diffusion.schedule import Time, level, time_at
from ddim.diffusion.solvers.contract import Solver
from ddim.diffusion.solvers.ddim import ddim
from ddim.diffusion.solvers.multisteps import dpm2m, dpm3m
from ddim.errors import InputError, shown

ORDERS = (ddim, dpm2m, dpm3m)  # their formulas, by the number of predictions that there are
SAFETY, LEAST, MOST = 0.9, 0.2, 2.0  # of a step's length: against the estimate, and beside the step before
FIRST = 0.25  # in λ, the most for a step without predictions before it, which has no estimate
SHORTEST = 1e-6  # in λ; a step as short is taken whatever its estimate
LIMIT = 10_000  # evaluations
ADAPTIVE, TOLERANCE = "adaptive", 0.01


class Progress(NamedTuple):
    """Where each image of an adaptive walk is: the state."""

    past: tuple[Prediction, ...]  # the last three, newest first; each (N, …), with levels (N, 1, 1, 1)
    known: Tensor  # (N,) how many of them an image has
    h: Tensor  # (N,) float64: the length in λ that the next step may have
    evaluations: Tensor  # (N,) so far
    estimate: Tensor  # (N,) float64: the sum of the estimated errors of its steps, root mean square in x


@dataclass(frozen=True)
class Adaptive(Solver):
    """DPM-Solver++(3M) in steps of λ = −log σ̄, each as long as its error allows; between two times of the grid there
    may be many. The error is estimated by the difference from 2M of the same step, which costs no evaluation: a step
    that is refused is only computed again, shorter.

    tolerance: of a step, root mean square over an image in x. Every image has its own steps, so that it does not depend
    on its batch; the batch is evaluated until its last image has arrived. Controller: h ← 0.9 h (tolerance/error)^(1/k)
    with k the order of the error, between a fifth and twice (Hairer, Nørsett & Wanner, Solving ODEs I, II.4).
    The state tells evaluations and estimated error of each image. Raises InputError where the tolerance is not above 0.
    """

    name: str = field(init=False)  # with the tolerance, where it is not the default
    order: int = field(init=False, default=3)
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if isinstance(self.tolerance, bool) or not isinstance(self.tolerance, Real) or not 0 < self.tolerance < inf:
            raise InputError(f"a tolerance is a number above 0; got {shown(self.tolerance)}")
        named = "" if self.tolerance == TOLERANCE else f"-{self.tolerance:g}"
        object.__setattr__(self, "name", f"{ADAPTIVE}{named}")

    def step(self, model, x: Tensor, t: Time, s: Time, state: Progress | None):
        abar = model.abar
        here, goal = (_each(level(abar, time, x), x) for time in (t, s))  # (N, 1, 1, 1) float64
        first = None
        for _ in range(LIMIT):
            active = here != goal
            if not active.any():
                return x, first, state
            prediction = model(x, _time(abar, here))
            first = first or prediction
            state = _pushed(state or _begun(here, prediction, self.tolerance), prediction, active.flatten(), here)
            x, here, state = self.advance(x, here, goal, state, abar)
        raise InputError(f"solver {self.name} took {LIMIT:,} evaluations and has not arrived: take a larger tolerance")

    def advance(self, x: Tensor, here: Tensor, goal: Tensor, state: Progress, abar: Tensor):
        """x one accepted step on, where each image is then, and the state."""
        active, h, k = (here != goal).flatten(), state.h, state.known
        while True:
            there = _next(here, goal, h, abar)
            best, error = _steps(x, state.past, k, there)
            short = half_log_snr(there).sub(half_log_snr(here)).abs().flatten() <= SHORTEST
            refused = active & (error > self.tolerance) & ~short
            factor = SAFETY * (self.tolerance / error.clamp(min=1e-30)) ** (1 / k.clamp(max=3))
            if not refused.any():
                break
            h = torch.where(refused, h * factor.clamp(LEAST, SAFETY), h)
        longer = torch.where(error > 0, factor.clamp(LEAST, MOST), MOST)
        # A step that the goal cut short says little: the length stays what it was, if that was more.
        h = torch.where(active, torch.maximum(h * longer, torch.where(there.flatten() == goal.flatten(), h, 0)), h)
        moved = active.view(-1, 1, 1, 1)
        state = state._replace(h=h, estimate=state.estimate + torch.where(active, error, 0))
        return torch.where(moved, best, x).to(x.dtype), torch.where(moved, there, here), state

    def evaluations(self, times: Sequence[Time], state: Any = None) -> None:
        return None


def adaptive(name: str) -> Adaptive:
    """The solver that "adaptive-0.001" names. Raises InputError."""
    try:
        tolerance = float(name.removeprefix(f"{ADAPTIVE}-"))
    except ValueError as error:
        raise InputError(f"solver {name}: a tolerance follows, as in {ADAPTIVE}-0.001") from error
    return Adaptive(tolerance)


def _each(value: Tensor, x: Tensor) -> Tensor:
    """A level for each image of x: (N, 1, 1, 1)."""
    return value.expand(len(x), 1, 1, 1) if value.ndim else value.view(1, 1, 1, 1).expand(len(x), 1, 1, 1)


def _time(abar: Tensor, here: Tensor) -> Time:
    """The time of each image; one for all where they are at the same."""
    return time_at(abar, here.flatten()[0]) if (here == here.flatten()[0]).all() else time_at(abar, here)


def _begun(here: Tensor, first: Prediction, tolerance: float) -> Progress:
    """The state of a walk that begins. DDIM's step errs by about √ᾱ h²/2 times the slope of x̂_0, of the order of 1."""
    zero = torch.zeros(len(here), dtype=torch.float64, device=here.device)
    h = (tolerance / here.flatten().sqrt().clamp(min=1e-9)).sqrt() / 2
    first = Prediction(first.x0, first.eps, here)
    return Progress((first,) * 3, zero.long(), h.clamp(max=FIRST), zero.long(), zero)


def _pushed(state: Progress, new: Prediction, active: Tensor, here: Tensor) -> Progress:
    """The state with another prediction for those images that are on their way."""
    new = Prediction(new.x0, new.eps, here)
    moved = active.view(-1, 1, 1, 1)
    shifted = zip((new, *state.past[:2]), state.past, strict=True)
    past = tuple(
        Prediction(*(torch.where(moved, a, b) for a, b in zip(*(p[:3] for p in pair), strict=True))) for pair in shifted
    )
    known = torch.where(active, (state.known + 1).clamp(max=3), state.known)
    return state._replace(past=past, known=known, evaluations=state.evaluations + active)


def _next(here: Tensor, goal: Tensor, h: Tensor, abar: Tensor) -> Tensor:
    """The level that a step of length h leads to, no further than the goal. From and into levels where λ is infinite,
    the data and the end of a schedule without signal, a step goes to the first level or the last, or the goal.
    """
    up = goal > here  # towards the data
    ends = abar[abar > 0][-1].to(here), abar[1].to(here)  # the outermost levels with a λ
    inner = goal.clamp(*(e.item() for e in ends))
    there = torch.where(up, half_log_snr(here) + h.view_as(here), half_log_snr(here) - h.view_as(here))
    there = torch.sigmoid(2 * there)  # λ is half of the log-SNR
    there = torch.where(up, torch.minimum(there, inner), torch.maximum(there, inner))
    jump = (here == 0) | (here == 1)
    there = torch.where(jump, torch.where(up, ends[0], ends[1]).clamp(goal.minimum(here), goal.maximum(here)), there)
    return torch.where(inner == here, goal, there)  # nothing is left but the jump at the end


def _steps(x: Tensor, past: tuple[Prediction, ...], known: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """x by the highest order that each image has predictions for, and (N,) how far that is from the order below; 0
    where there is none.
    """
    found = [solver.formula(x, past[:k], there) for k, solver in enumerate(ORDERS, 1)]
    k = known.view(-1, 1, 1, 1)
    best = torch.where(k == 1, found[0], torch.where(k == 2, found[1], found[2]))
    less = torch.where(k == 2, found[0], torch.where(k == 1, best, found[1]))
    return best, (best - less).double().square().flatten(1).mean(1).sqrt()
