"""Inverting DDIM sampling itself: the implicit step by a fixed point, and exactly by bidirectional integration.

Plain encoding asks the network at the level it leaves, sampling asks it at the other end of the same step, so their
round trip errs by O(1/S). Each of the two ways here removes that error, and names its price.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddim.diffusion.process import Prediction, from_eps, marginal, sigma_bar
from ddim.diffusion.schedule import Time, level
from ddim.diffusion.solvers.contract import Solver, only
from ddim.errors import InputError
from ddim.system.machine import widest


@dataclass(frozen=True)
class Implicit(Solver):
    """DDIM's step up that its step down undoes, with ε of the level being *entered*:
    x_t = √ᾱ_t (x_s/√ᾱ_s + (σ̄_t − σ̄_s) ε_θ(x_t, t)), solved for x_t by a fixed point. Order 1, encoding only.

    An image is done when the root mean square of its residual is `tolerance` or less, after at most `iterations`
    evaluations a step. The state is (N,), each image's largest residual so far: where it is far above the tolerance,
    the step has no solution near; take more steps.
    """

    name: str = "implicit"
    order: int = 1
    tolerance: float = 1e-6
    iterations: int = 50

    def step(self, model, x: Tensor, t: Time, s: Time, state: Tensor | None):
        only(self, t, s, falling=False)
        low, high = level(model.abar, t, x), level(model.abar, s, x)
        a = (high / low).sqrt()
        b = (1 - high).sqrt() - a * (1 - low).sqrt()  # √ᾱ_s (σ̄_s − σ̄_t)
        search = Anderson(a * x)
        for _ in range(self.iterations):
            if search.update(a * x + b * model(search.x, s).eps, self.tolerance):
                break
        residual = search.least if state is None else torch.maximum(state, search.least)
        # The ε that leads exactly to the solution: stepping down from there misses x by the residual and no more.
        prediction = from_eps(x, (search.best - a * x) / b, low)
        return marginal(prediction.x0, prediction.eps, high).to(x.dtype), prediction, residual

    def evaluations(self, times: Sequence[Time], state: Any = None) -> None:
        return None


class Anderson:
    """Solves x = g(x) for each row of x (N, …) by Anderson acceleration: evaluate g at `x`, `update` with its value,
    repeat.

    The next iterate is Σ α_i g(x_i) over the last `MEMORY` iterates, with Σ α_i = 1 and ‖Σ α_i (g(x_i) − x_i)‖ least
    (Walker & Ni 2011). A residual is the root mean square of g(x) − x over a row.
    best: (N, …) the best x of each row so far.  least: (N,) its residual.
    """

    MEMORY = 6

    def __init__(self, x: Tensor):
        self.x = self.best = x
        self.least = wide(x.new_full((len(x),), torch.inf))
        self.values: list[Tensor] = []  # g(x_i), each (N, D) float64
        self.residuals: list[Tensor] = []  # g(x_i) − x_i, likewise

    def update(self, value: Tensor, tolerance: float) -> bool:
        """Take in g(x), and move x. Returns whether every row is solved to `tolerance`."""
        residual = wide(value - self.x).flatten(1)  # (N, D)
        size = residual.square().mean(1).sqrt()  # (N,)
        better = size < self.least
        self.best = torch.where(better.view(-1, *[1] * (value.ndim - 1)), self.x, self.best)
        self.least = torch.where(better, size, self.least)
        if (self.least <= tolerance).all():
            return True
        self.values = [*self.values, wide(value).flatten(1)][-self.MEMORY :]
        self.residuals = [*self.residuals, residual][-self.MEMORY :]
        r = torch.stack(self.residuals, 1)  # (N, m, D)
        gram = r @ r.mT  # (N, m, m)
        ridge = 1e-12 * gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] + 1e-30
        gram = gram + ridge * torch.eye(gram.shape[1], device=gram.device, dtype=gram.dtype)
        alpha = torch.linalg.solve(gram, gram.new_ones(gram.shape[:2]))  # (N, m)
        alpha = alpha / alpha.sum(1, keepdim=True)
        x = (alpha[:, :, None] * torch.stack(self.values, 1)).sum(1)
        self.x = x.to(self.x.dtype).view_as(self.x)
        return False


class Pair(NamedTuple):
    """The state of exact inversion: x at the time before the present one, and the level ᾱ there."""

    behind: Tensor
    abar: Tensor


@dataclass(frozen=True)
class Exact(Solver):
    """Exact inversion: a step leads on from the last two places, p and t, to u in such a way that the same formula,
    read from the other end, leads back. Each kind is a subclass with its formula, `onward`. Up and down.

    The state is a `Pair`. The first step of a walk without one is DDIM's. A walk that starts with the pair that another
    one ended with turns round: its first step returns to where the other came from, without an evaluation. All is
    done in float64, where the device has it: what damps a rounding error one way magnifies it the other.
    """

    def step(self, model, x: Tensor, t: Time, s: Time, state: Pair | None):
        x, abar_s = wide(x), level(model.abar, s, x)
        if state is not None and torch.equal(state.abar, abar_s):
            return wide(state.behind), between(x, level(model.abar, t, x), *state), Pair(x, level(model.abar, t, x))
        prediction = model(x, t)
        here = prediction.abar
        if state is None:
            return marginal(prediction.x0, prediction.eps, abar_s), prediction, Pair(x, here)
        return self.onward(x, prediction, state, abar_s), prediction, Pair(x, here)

    def onward(self, x: Tensor, prediction: Prediction, state: Pair, abar_s: Tensor) -> Tensor:
        """x_u, from x_t, the prediction there, and x_p."""
        raise NotImplementedError

    def evaluations(self, times: Sequence[Time], state: Any = None) -> int:
        return len(times) - (1 if state is None else 2)


@dataclass(frozen=True)
class BDIA(Exact):
    """Bidirectional integration approximation with γ = 1 (Zhang et al. 2023, arXiv 2307.10829):
    x_u = x_p − DDIM(x_t→p) + DDIM(x_t→u). Order 2 where steps change little in σ̄ from one to the next, as leapfrog.
    Nothing damps an error, up or down.
    """

    name: str = "exact"
    order: int = 2

    def onward(self, x: Tensor, prediction: Prediction, state: Pair, abar_s: Tensor) -> Tensor:
        # DDIM(x_t→u) − DDIM(x_t→p), subtracted before it meets x: far less rounding than two steps apart.
        x0 = (abar_s.sqrt() - state.abar.sqrt()) * prediction.x0
        eps = ((1 - abar_s).sqrt() - (1 - state.abar).sqrt()) * prediction.eps
        return state.behind + (x0 + eps)


@dataclass(frozen=True)
class OBELM(Exact):
    """O-BELM, the optimal two-step one (Wang et al. 2024, arXiv 2410.07273, section 4): with d = σ̄_t − σ̄_p,
    h = σ̄_u − σ̄_t and r = h/d, x̄_u = r² x̄_p + (1 − r²) x̄_t + h (1 + r) ε. Order 2 over any steps: leapfrog where r = 1.

    An error is multiplied by r² a step: falling grids, whose steps shrink in σ̄, forget it on the way down.
    """

    name: str = "o-belm"
    order: int = 2

    def onward(self, x: Tensor, prediction: Prediction, state: Pair, abar_s: Tensor) -> Tensor:
        here = prediction.abar
        if any((abar == 0).any() for abar in (state.abar, here, abar_s)):
            raise InputError(f"solver {self.name} cannot pass a level without any signal; choose exact")
        h, d = sigma_bar(abar_s) - sigma_bar(here), sigma_bar(here) - sigma_bar(state.abar)
        ratio = (h / d) ** 2
        before, now = state.behind / state.abar.sqrt(), x / here.sqrt()  # x̄
        return abar_s.sqrt() * (ratio * before + (1 - ratio) * now + h * (1 + h / d) * prediction.eps)


def between(x: Tensor, abar: Tensor, behind: Tensor, abar_behind: Tensor) -> Prediction:
    """The Prediction at x and ᾱ from which DDIM's step leads to `behind` at its level: (13) solved for ε."""
    a = (abar_behind / abar).sqrt()
    return from_eps(x, (behind - a * x) / ((1 - abar_behind).sqrt() - a * (1 - abar).sqrt()), abar)


def wide(x: Tensor) -> Tensor:
    """float64 for sums whose rounding nothing damps, where the device has it. The network keeps its own dtype."""
    return x.to(widest(x.device))
