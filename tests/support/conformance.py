"""The gate for solvers: each is run on data of which everything is known, over every spacing and S from 1 to 50.

A new solver gets a row in WAYS, and must then be finite everywhere and converge with the order it claims.
`python -m support.conformance`, in tests/, prints the table of errors.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ddim.diffusion import schedule
from ddim.diffusion.solvers import Solver, find, with_noise
from ddim.diffusion.walk import last, walk
from support.oracles import Gaussian, Mixture

Way = Callable[[Iterator[Tensor]], Solver]  # from the noise of each step, which a deterministic solver ignores


def noisy(eta: float | str, noise: Iterator[Tensor]) -> Solver:
    return with_noise("ddim", eta, "small", noise)


WAYS: dict[str, Way] = {
    "η = 0 (DDIM)": lambda noise: find("ddim"),
    "η = 0.2": partial(noisy, 0.2),
    "η = 0.5": partial(noisy, 0.5),
    "η = 1 (DDPM)": partial(noisy, 1.0),
    "σ̂": partial(noisy, "hat"),
    "heun": lambda noise: find("heun"),
    "unipc": lambda noise: find("unipc"),
}


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def gaussian(T: int = 1000) -> Gaussian:
    return Gaussian(schedule.linear(T, 0.1 / T, 20 / T), number(0.4), number(0.3))


def mixture(T: int = 1000) -> Mixture:
    """Three components in two dimensions, as pictures of two pixels."""
    means = torch.tensor([[-0.8, 0.6], [0.7, 0.7], [0.1, -0.9]], dtype=torch.float64).view(3, 1, 1, 2)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    return Mixture(schedule.linear(T, 0.1 / T, 20 / T), weights, means, 0.02)


def starts(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian_error(way: Way, model: Gaussian, times: list[int]) -> float:
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
    mean = a * model.abar[first].sqrt() * model.mean + b
    spread = (a.square() * model.spread(first) ** 2 + c.square().sum()).sqrt()
    return ((mean - model.mean) ** 2 + (spread - model.variance.sqrt()) ** 2).sqrt().item()


def ode_error(way: Way, model: Mixture, times: list[int], x: Tensor, exact: Tensor) -> float:
    """The root mean square distance between where a deterministic solver and the exact flow carry x."""
    return (last(walk(model, x, times, way(iter(())))).x - exact).square().mean().sqrt().item()


def order(errors: dict[int, float]) -> float:
    """The slope of log error over log 1/S, by least squares."""
    S, e = (torch.tensor(list(values), dtype=torch.float64).log() for values in (errors.keys(), errors.values()))
    return -(((S - S.mean()) * (e - e.mean())).sum() / (S - S.mean()).square().sum()).item()


def table() -> str:
    """The errors on Gaussian data (linear β, T = 1000) and the measured orders, in Markdown."""
    columns = (1, 2, 5, 10, 20, 50)
    lines = [f"| solver | spacing | {' | '.join(f'S = {S}' for S in columns)} | order |"]
    lines.append("|---" * (len(columns) + 3) + "|")
    for name, way in WAYS.items():
        for spacing in ("linear", "quadratic"):
            errors = [gaussian_error(way, gaussian(), schedule.times(1000, S, spacing)) for S in columns]
            row = " | ".join(f"{error:.2g}" for error in errors)
            lines.append(f"| {name} | {spacing} | {row} | {order(convergence(way, spacing)):.2f} |")
    return "\n".join(lines)


def convergence(way: Way, spacing: str, T: int = 8192) -> dict[int, float]:
    """Errors at S where the order shows, on a schedule fine enough that times need hardly any rounding."""
    model = gaussian(T)
    return {S: gaussian_error(way, model, schedule.times(T, S, spacing)) for S in (64, 128, 256)}


if __name__ == "__main__":
    print(table())
