"""Three ways to make a model or a solver agree with y = A x + s n, where s is a deviation and n ~ N(0, I)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ddim.diffusion.around import Around
from ddim.diffusion.model import Denoiser
from ddim.diffusion.operators import Operator
from ddim.diffusion.process import Prediction, from_x0
from ddim.diffusion.schedule import Time, level
from ddim.diffusion.solvers.contract import Solver, only

# Of x̂_0 given x_t: a map (v (N, C, H, W), x, t) -> Σ v. By default Σ = (1 − ᾱ) I, which is that of data N(0, I).
Covariance = Callable[[Tensor, Tensor, Time], Tensor]


@dataclass(frozen=True)
class Conditioned(Around):
    """A model around a model, which knows y of the images that it denoises."""

    model: Denoiser
    y: Tensor
    operator: Operator
    noise: float = 0.0  # s


@dataclass(frozen=True)
class Projected(Conditioned):
    """x̂_0 + A⁺ (y − A x̂_0) in the place of x̂_0, which is DDNM (Wang et al. 2022, arXiv 2212.00490, eq. 13); ε follows.

    With noise it is x̂_0 + r² Aᵀ (r² A Aᵀ + s²)⁻¹ (y − A x̂_0), the mean of N(x̂_0, r² I) given y, r² = 1 − ᾱ. The network
    is asked once, and no gradient is needed.
    """

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        prediction = self.model(x, t)
        if (prediction.abar == 1).all():  # x is the image itself
            return prediction
        x0, A = prediction.x0, self.operator
        if self.noise:
            r2 = 1 - prediction.abar
            x0 = x0 + r2 * A.transpose(A.solve(self.y - A(x0), r2, self.noise**2))
        else:
            x0 = A.fixed(x0, self.y)
        x0 = x0.to(x.dtype)
        return Prediction(x0, from_x0(x, x0, prediction.abar).eps.to(x.dtype), prediction.abar)


@dataclass(frozen=True)
class PiGDM(Conditioned):
    """ε − √(1−ᾱ) ∇ log p(y | x), where x_0 given x_t is taken for N(x̂_0, Σ): ∇ log p(y | x) is the gradient of x̂_0
    times Aᵀ (A Σ Aᵀ + s²)⁻¹ (y − A x̂_0). ΠGDM (Song et al. 2023, ICLR, eq. 7 and 8), whose Σ is r² I with r² = 1 − ᾱ.

    covariance: another Σ. Where x_0 given x_t is Gaussian and Σ its covariance, this is the exact conditional.
    """

    covariance: Covariance | None = None

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            prediction = self.model(leaf, t)
            seen = self.operator(prediction.x0)  # A x̂_0
            weight = self.weight((self.operator.within(self.y) - seen).detach(), leaf.detach(), t, prediction.abar)
            (slope,) = torch.autograd.grad((seen * weight).sum(), leaf)
        return shifted(prediction, slope)

    def weight(self, off: Tensor, x: Tensor, t: Time, abar: Tensor) -> Tensor:
        """(A Σ Aᵀ + s²)⁻¹ of what A x̂_0 is off by."""
        A = self.operator
        if self.covariance is None:
            return A.solve(off, 1 - abar, self.noise**2).to(off.dtype)
        return conjugate(lambda v: A(self.covariance(A.transpose(v), x, t)) + self.noise**2 * v, off)


def shifted(prediction: Prediction, slope: Tensor) -> Prediction:
    """The Prediction with ε − √(1−ᾱ) g in the place of ε, g the gradient of a log-density at x (N, C, H, W): x̂_0 is
    then x̂_0 + (1−ᾱ)/√ᾱ g. At a level without any signal g is nothing.
    """
    x0, eps, abar = (part.detach() for part in prediction[:3])
    moved = x0 + torch.where(abar == 0, 0.0, (1 - abar) / abar.sqrt()) * slope
    return Prediction(moved.to(x0.dtype), (eps - (1 - abar).sqrt() * slope).to(eps.dtype), abar)


def conjugate(product: Callable[[Tensor], Tensor], b: Tensor, tolerance: float = 1e-10, most: int = 100) -> Tensor:
    """The v with product(v) = b, for each row of b by conjugate gradients: product is symmetric and not negative."""
    v, r = torch.zeros_like(b), b
    p, square = r, dot(r, r)
    enough = tolerance**2 * square
    for _ in range(min(most, 2 * b[0].numel())):
        if (square <= enough).all():
            break
        along = product(p)
        curve = dot(p, along)
        step = torch.where(curve > 0, square / curve.where(curve > 0, 1.0), 0.0)
        v, r = v + step * p, r - step * along
        before, square = square, dot(r, r)
        p = r + torch.where(before > 0, square / before.where(before > 0, 1.0), 0.0) * p
    return v


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each row of (N, C, H, W): (N, 1, 1, 1)."""
    return (a * b).sum((1, 2, 3), keepdim=True)


@dataclass(frozen=True)
class DPS(Solver):
    """A step of `inner`, less `scale` times the gradient of ‖y − A x̂_0‖ at x_t: diffusion posterior sampling (Chung et
    al. 2022, arXiv 2209.14687, algorithm 1, with ζ_i as in its code). It is a way to step, not a model: what it adds
    does not depend on how far the step goes. `inner` evaluates once a step.
    """

    name: str = "dps"
    order: int = 1
    inner: Solver = field(default=None, repr=False)
    y: Tensor = field(default=None, repr=False)
    operator: Operator = field(default=None, repr=False)
    scale: float = 1.0

    def step(self, model, x: Tensor, t: Time, s: Time, state: Any):
        only(self, t, s, falling=True)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            prediction = model(leaf, t)
            off = (self.operator.within(self.y) - self.operator(prediction.x0)).flatten(1)
            (slope,) = torch.autograd.grad(off.norm(dim=1).sum(), leaf)
        known = Prediction(*(part.detach() for part in prediction[:3]))
        onward, _, state = self.inner.step(Answered(model.abar, known), x, t, s, state)
        return onward - self.scale * slope, known, state


@dataclass(frozen=True)
class Answered:
    """A model whose answer is known."""

    abar: Tensor
    prediction: Prediction

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        return self.prediction


@dataclass(frozen=True)
class Resampled(Solver):
    """Blocks of the steps of `inner`, each taken `times` times: before each but the first, x at the block's end is made
    as noisy as at its start again. RePaint's resampling (Lugmayr et al. 2022, arXiv 2201.09865, algorithm 1), which
    lets what is made anew and what is known agree; of `blocks(grid, jump)` with its jumps of several steps. There, the
    step into the data and what is left of a block at the top are taken once.

    grid: all times, of which the walk's own are where blocks begin and end; by default the walk's own alone.
    noise: one (N, C, H, W) for each return.
    """

    name: str = "resampled"
    order: int = 1
    inner: Solver = field(default=None, repr=False)
    times: int = 10
    noise: Any = field(default=iter(()), repr=False)
    grid: Sequence[Time] = field(default=(), repr=False)

    def step(self, model, x: Tensor, t: Time, s: Time, state: Any):
        only(self, t, s, falling=True)
        steps = list(pairwise(self.within(t, s)))
        for left in reversed(range(self.times)):
            onward, after = x, state
            for here, there in steps:
                onward, prediction, after = self.inner.step(model, onward, here, there, after)
            if left:
                ratio = level(model.abar, t, x) / level(model.abar, s, x)
                x = (ratio.sqrt() * onward + (1 - ratio).sqrt() * next(self.noise)).to(x.dtype)
        return onward, prediction, after

    def within(self, t: Time, s: Time) -> Sequence[Time]:
        """The times of a block, from t to s."""
        return self.grid[self.grid.index(t) : self.grid.index(s) + 1] if self.grid else [t, s]

    def evaluations(self, times: Sequence[Time], state: Any = None) -> int | None:
        once = self.inner.evaluations(self.grid or times, state)
        return once and once * self.times


def blocks(grid: Sequence[Time], jump: int) -> list[Time]:
    """Where blocks of `jump` steps of a falling grid begin and end, counted from its last time up: the first may have
    fewer steps."""
    ends = list(grid[::-1][::jump])[::-1]
    return ends if ends[0] == grid[0] else [grid[0], *ends]
