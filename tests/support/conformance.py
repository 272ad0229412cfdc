"""The gate for samplers: each is run on data of which everything is known, over every spacing and S from 1 to 50.

A new sampler gets a row in SAMPLERS, and must then be finite everywhere and converge with the order it claims.
`python tests/conformance.py` prints the table of errors.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ddim.diffusion import schedule
from ddim.diffusion.sampling import Step, ddim, end, stochastic, walk
from support.oracles import Gaussian, Mixture


@dataclass(frozen=True)
class Sampler:
    step: Callable[[Iterator[Tensor]], Step]  # from the noise of each step, which an ODE sampler ignores
    order: int  # the global error falls as S^-order
    past: int = 1  # predictions that the step is shown


SAMPLERS = {
    "η = 0 (DDIM)": Sampler(lambda noise: ddim, order=1),
    "η = 0.2": Sampler(partial(stochastic, 0.2), order=1),
    "η = 0.5": Sampler(partial(stochastic, 0.5), order=1),
    "η = 1 (DDPM)": Sampler(partial(stochastic, 1.0), order=1),
    "σ̂": Sampler(partial(stochastic, "hat"), order=1),
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


def gaussian_error(sampler: Sampler, model: Gaussian, times: list[int]) -> float:
    """The Wasserstein-2 distance between what comes out and the data, exactly: no pictures are drawn.

    On Gaussian data every sampler is affine, x_0 = a x_T + b + Σ_i c_i z_i. A batch finds it out: a row starts at 0, a
    row at 1, and a row for each step has z_i = 1. The start has the exact marginal of its level.
    """
    S = len(times) - 1
    x = torch.zeros(2 + S, 1, 1, 1, dtype=torch.float64)
    x[1] = 1
    unit = torch.eye(2 + S, dtype=torch.float64)[:, 2:].T.reshape(S, 2 + S, 1, 1, 1)
    out = end(walk(model, x, times, sampler.step(iter(unit)), sampler.past)).flatten()
    a, b, c = out[1] - out[0], out[0], out[2:] - out[0]
    first = times[0]
    mean = a * model.abar[first].sqrt() * model.mean + b
    spread = (a.square() * model.spread(first) ** 2 + c.square().sum()).sqrt()
    return ((mean - model.mean) ** 2 + (spread - model.variance.sqrt()) ** 2).sqrt().item()


def ode_error(sampler: Sampler, model: Mixture, times: list[int], x: Tensor, exact: Tensor) -> float:
    """The root mean square distance between where an ODE sampler and the exact flow carry x."""
    return (end(walk(model, x, times, sampler.step(iter(())), sampler.past)) - exact).square().mean().sqrt().item()


def order(errors: dict[int, float]) -> float:
    """The slope of log error over log 1/S, by least squares."""
    S, e = (torch.tensor(list(values), dtype=torch.float64).log() for values in (errors.keys(), errors.values()))
    return -(((S - S.mean()) * (e - e.mean())).sum() / (S - S.mean()).square().sum()).item()


def table() -> str:
    """The errors on Gaussian data (linear β, T = 1000) and the measured orders, in Markdown."""
    columns = (1, 2, 5, 10, 20, 50)
    lines = [f"| sampler | spacing | {' | '.join(f'S = {S}' for S in columns)} | order |"]
    lines.append("|---" * (len(columns) + 3) + "|")
    for name, sampler in SAMPLERS.items():
        for spacing in ("linear", "quadratic"):
            errors = [gaussian_error(sampler, gaussian(), schedule.times(1000, S, spacing)) for S in columns]
            row = " | ".join(f"{error:.2g}" for error in errors)
            lines.append(f"| {name} | {spacing} | {row} | {order(convergence(sampler, spacing)):.2f} |")
    return "\n".join(lines)


def convergence(sampler: Sampler, spacing: str, T: int = 8192) -> dict[int, float]:
    """Errors at S where the order shows, on a schedule fine enough that times need hardly any rounding."""
    model = gaussian(T)
    return {S: gaussian_error(sampler, model, schedule.times(T, S, spacing)) for S in (64, 128, 256)}


if __name__ == "__main__":
    print(table())
