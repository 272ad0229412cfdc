"""The gate for solvers: each is run on data of which everything is known, over every spacing and S from 1 to 50.

A new solver is in it by its row in `SOLVERS`: it must be finite everywhere and converge with the order it claims.
`python -m support.conformance`, in tests/, prints the table of errors.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import Tensor

from ddim.diffusion import schedule
from ddim.diffusion.schedule import Time, level, time_at
from ddim.diffusion.solvers import SOLVERS, Adaptive, Exact, Implicit, Pair, Solver, UniPC, find, with_noise
from ddim.diffusion.solvers.corrector import Corrected
from ddim.diffusion.walk import last, walk
from support.oracles import Gaussian, Mixture

Way = Callable[[Iterator[Tensor]], Solver]  # from the noise of each step, which a deterministic solver ignores


def noisy(name: str, eta: float | str, noise: Iterator[Tensor]) -> Solver:
    return with_noise(name, eta, "small", noise)


OTHERS = (Implicit, Adaptive)  # which have tests of their own: one encodes only, one takes other steps than the grid's
SAMPLING = [name for name, solver in SOLVERS.items() if not isinstance(solver, OTHERS) and name == solver.name]
NOISY: dict[str, Way] = {
    "η = 0.2": partial(noisy, "ddim", 0.2),
    "η = 0.5": partial(noisy, "ddim", 0.5),
    "η = 1 (DDPM)": partial(noisy, "ddim", 1.0),
    "σ̂": partial(noisy, "ddim", "hat"),
    "dpm++2m, η = 0.5": partial(noisy, "dpm++2m", 0.5),
}
WAYS: dict[str, Way] = {name: partial(noisy, name, 0.0) for name in [*SAMPLING, "dpm++3m+afs"]} | NOISY
SPACINGS = [*schedule.SPACINGS, "power-2.5", *schedule.LEVEL_SPACINGS]
IN_LAMBDA = ("dpm++2m", "dpm++3m", "dpm++2s", "unipc", "unipc3")  # whose order shows on even grids in λ, not in σ̄


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@cache
def gaussian(T: int = 1000) -> Gaussian:
    return Gaussian(schedule.linear(T, 0.1 / T, 20 / T), number(0.4), number(0.3))


@cache
def mixture(T: int = 1000) -> Mixture:
    """Three components in two dimensions, as pictures of two pixels."""
    means = torch.tensor([[-0.8, 0.6], [0.7, 0.7], [0.1, -0.9]], dtype=torch.float64).view(3, 1, 1, 2)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    return Mixture(schedule.linear(T, 0.1 / T, 20 / T), weights, means, 0.02)


def starts(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noises(shape: tuple[int, ...]) -> Iterator[Tensor]:
    """Endless, the same every time."""
    generator = torch.Generator().manual_seed(1)
    while True:
        yield torch.randn(shape, generator=generator, dtype=torch.float64)


def gaussian_error(way: Way, model: Gaussian, times: list[Time]) -> float:
    """The Wasserstein-2 distance between what comes out and the data, exactly: no pictures are drawn.

    On Gaussian data every solver here is affine, x_0 = a x_T + b + Σ_i c_i z_i. A batch finds it out: a row starts at
    0, a row at 1, and a row for each step has z_i = 1. The start has the exact marginal of its level.
    """
    S = len(times) - 1
    x = torch.zeros(2 + S, 1, 1, 1, dtype=torch.float64)
    x[1] = 1
    unit = torch.eye(2 + S, dtype=torch.float64)[:, 2:].T.reshape(S, 2 + S, 1, 1, 1)
    out = last(walk(model, x, times, way(iter(unit)))).x.flatten()
    a, b, c = out[1] - out[0], out[0], out[2:] - out[0]
    first = times[0]
    mean = a * level(model.abar, first).sqrt() * model.mean + b
    spread = (a.square() * model.spread(first) ** 2 + c.square().sum()).sqrt()
    return ((mean - model.mean) ** 2 + (spread - model.variance.sqrt()) ** 2).sqrt().item()


def ode_error(way: Way, model: Mixture, times: list[Time], x: Tensor, exact: Tensor) -> float:
    """The root mean square distance between where a deterministic solver and the exact flow carry x."""
    return (last(walk(model, x, times, way(iter(())))).x - exact).square().mean().sqrt().item()


def order(errors: dict[int, float]) -> float:
    """The slope of log error over log 1/S, by least squares."""
    S, e = (torch.tensor(list(values), dtype=torch.float64).log() for values in (errors.keys(), errors.values()))
    return -(((S - S.mean()) * (e - e.mean())).sum() / (S - S.mean()).square().sum()).item()


def even(abar: Tensor, first: Time, end: Time, S: int, in_lambda: bool, before: int = 0) -> list[Time]:
    """Times from `first` to `end` in S steps, even in λ or in σ̄, after `before` more steps of the same size."""
    part = torch.arange(-before, S + 1, dtype=torch.float64) / S
    a, b = level(abar, first), level(abar, end)
    if in_lambda:
        levels = torch.lerp(a.logit(), b.logit(), part).sigmoid()
    else:
        levels = 1 / (1 + torch.lerp((1 / a - 1).sqrt(), (1 / b - 1).sqrt(), part) ** 2)
    return [first if i == before else time_at(abar, here) for i, here in enumerate(levels)]


class Interior:
    """Walks between two interior times of known data, where the order that a solver claims must show."""

    def __init__(self, model: Gaussian | Mixture, first: Time, end: Time):
        self.model, self.first, self.end = model, first, end
        self.x = starts((8, 1, 1, 2))
        self.places: dict[Time, Tensor] = {}

    def at(self, t: Time) -> Tensor:
        """Where the exact flow is at t."""
        if t not in self.places:
            self.places[t] = self.model.flow(self.x, self.first, t)
        return self.places[t]

    def order(self, name: str, history: bool, steps: tuple[int, ...] = (40, 80, 160)) -> float:
        """history: start with what an exact walk would have left, else as walks start."""
        solver, errors = find(name), {}
        for S in steps:
            before = memory(solver) if history else 0
            times = even(self.model.abar, self.first, self.end, S, name in IN_LAMBDA, before)
            state = self.state(solver, times[:before]) if before else None
            found = last(walk(self.model, self.x, times[before:], solver, state)).x
            errors[S] = (found - self.at(self.end)).square().mean().sqrt().item()
        return order(errors)

    def state(self, solver: Solver, times: list[Time]):
        """A solver's state after an exact walk along `times`."""
        if isinstance(solver, Exact):
            return Pair(self.at(times[-1]), level(self.model.abar, times[-1]))
        past = tuple(self.model(self.at(t), t) for t in times[::-1])
        return Corrected(self.at(times[-1]), past) if isinstance(solver, UniPC) else past


def memory(solver: Solver) -> int:
    """How many steps before the present one a solver remembers."""
    if isinstance(solver, Exact):
        return 1
    return solver.predictions if isinstance(solver, UniPC) else getattr(solver, "memory", 1) - 1


def table() -> str:
    """The errors on Gaussian data (linear β, T = 1000) and the measured orders, in Markdown."""
    columns = (1, 2, 5, 10, 20, 50)
    lines = [f"| solver | spacing | {' | '.join(f'S = {S}' for S in columns)} |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for name, way in WAYS.items():
        for spacing in ("linear", "quadratic"):
            errors = [gaussian_error(way, gaussian(), schedule.times(1000, S, spacing)) for S in columns]
            lines.append(f"| {name} | {spacing} | {' | '.join(f'{error:.2g}' for error in errors)} |")
    return "\n".join(lines)


def convergence(way: Way, spacing: str, T: int = 8192) -> dict[int, float]:
    """Errors at S where the order shows, on a schedule fine enough that times need hardly any rounding."""
    model = gaussian(T)
    return {S: gaussian_error(way, model, schedule.times(T, S, spacing)) for S in (64, 128, 256)}


if __name__ == "__main__":
    print(table())
