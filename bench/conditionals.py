"""How far is each way of restoring from the exact conditional, where that is known?

On a correlated Gaussian of four pixels, of which the first is known: the largest error of the mean and of the
covariance, in units of the exact deviation and variance. On a mixture of three components in two pixels, of which one
is known: the error of the share of the upper mode. Each over `--seeds` seeds of n answers: mean ± deviation.

    python bench/conditionals.py [--n 4000] [--seeds 5] [--resamplings 4 16 64] [--jumps 1 10 25] [--only resamplings]
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import contest
import torch
from torch import Tensor

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.conditioning import DPS, PiGDM, Projected, Resampled, blocks
from ddim.diffusion.operators import Inpainting
from ddim.diffusion.schedule import level
from ddim.diffusion.solvers import with_noise
from ddim.diffusion.walk import last

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.oracles import Correlated, Mixture

ABAR = schedule.linear()


def noises(shape: tuple[int, ...], seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(shape, generator=generator, dtype=torch.float64)


def from_jacobian(model) -> Callable:
    """Cov[x_0 | x_t] = (1−ᾱ)/√ᾱ ∂x̂_0/∂x_t, exactly, from the model's own gradient."""

    def times(v: Tensor, x: Tensor, t) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (found,) = torch.autograd.grad((model(leaf, t).x0 * v).sum(), leaf)
        abar = level(ABAR, t)
        return (1 - abar) / abar.sqrt() * found

    return times


def ways(model, y: Tensor, operator, resamplings: list[int], jumps: list[int]) -> dict[str, tuple]:
    """name -> (model, steps, η, resamplings, DPS's scale, jump)."""
    projected = Projected(model, y, operator)
    found = {"projection, η = 0": (projected, 100, 0.0, 1, None), "projection, η = 1": (projected, 100, 1.0, 1, None)}
    for k, jump in product(resamplings, jumps):
        back = f" of {jump} steps" if jump > 1 else ""
        found[f"projection, {k} resamplings{back}"] = (projected, 100, 1.0, k, None, jump)
    covariance = from_jacobian(model)
    for eta in (0.0, 1.0):
        found[f"pigdm, η = {eta:g}"] = (PiGDM(model, y, operator), 100, eta, 1, None)
        found[f"pigdm with the exact covariance, η = {eta:g}"] = (
            PiGDM(model, y, operator, covariance=covariance), 100, eta, 1, None,
        )  # fmt: skip
    return found | {f"dps, scale {s:g}": (model, 100, 1.0, 1, s) for s in (0.1, 0.3, 1.0)}


def drawn(way: tuple, y: Tensor, operator, n: int, seed: int) -> Tensor:
    """n answers, (n, D)."""
    (model, steps, eta, resamplings, scale), jump = way[:5], way[5] if len(way) > 5 else 1
    shape = (n, *y.shape[1:])
    solver = with_noise("ddim", eta, "small", noises(shape, 3 * seed + 1))
    path = schedule.grid(ABAR, steps, "quadratic")
    if resamplings > 1:
        solver = Resampled(inner=solver, times=resamplings, noise=noises(shape, 3 * seed + 2), grid=path)
        path = blocks(path, jump)
    if scale:
        solver = DPS(inner=solver, y=y, operator=operator, scale=scale)
    end = last(ddim.walk(model, next(noises(shape, 3 * seed)), path, solver)).x
    return operator.fixed(end, y).flatten(1)


def gaussian() -> tuple[Correlated, Tensor, Inpainting, Callable[[Tensor], list[float]]]:
    place = torch.arange(4, dtype=torch.float64)
    covariance = 0.3 * 0.8 ** (place[:, None] - place).abs()
    mean = torch.tensor([0.3, -0.2, 0.1, 0.4], dtype=torch.float64).view(1, 2, 2)
    model, operator = Correlated(ABAR, mean, covariance), Inpainting(torch.tensor([[0, 1], [1, 1]]))
    y = torch.full((1, 1, 2, 2), -0.6, dtype=torch.float64)
    exact = model.given(torch.eye(4, dtype=torch.float64)[:1], y.flatten()[:1])
    variance = exact.covariance.diag()[1:]

    def off(x: Tensor) -> list[float]:
        x, right = x[:, 1:], exact.mean.flatten()[1:]
        mean = ((x.mean(0) - right) / variance.sqrt()).abs().max()
        scale = (variance[:, None] * variance).sqrt()
        return [mean.item(), ((x.T.cov() - exact.covariance[1:, 1:]) / scale).abs().max().item()]

    return model, y, operator, off


def mixture(variance: float, apart: float) -> tuple[Mixture, Tensor, Inpainting, Callable[[Tensor], list[float]]]:
    means = apart * torch.tensor([[-1, -1], [-0.5, 1], [1.5, 0]], dtype=torch.float64).view(3, 1, 1, 2)
    model = Mixture(ABAR, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), means, variance)
    y = torch.tensor([[[[-0.7 * apart, 0.0]]]], dtype=torch.float64)
    near = (y[0, 0, 0, 0] - means[:, 0, 0, 0]) ** 2 / (2 * variance)
    weights = (model.weights.log() - near).softmax(0)
    components = torch.distributions.Normal(means[:, 0, 0, 1], torch.tensor(variance).double().sqrt())
    above = (weights * (1 - components.cdf(torch.zeros(3).double()))).sum().item()
    return model, y, Inpainting(torch.tensor([[0, 1]])), lambda x: [(x[:, 1] > 0).double().mean().item() - above]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--resamplings", type=int, nargs="*", default=[4, 16, 64])
    parser.add_argument("--jumps", type=int, nargs="*", default=[1, 10, 25])
    parser.add_argument("--only", default="", help="ways whose name holds this")
    a = parser.parse_args()
    table: dict[str, list[str]] = {}
    for model, y, operator, off in (gaussian(), mixture(0.05, 0.3), mixture(0.02, 0.6)):
        for name, way in ways(model, y, operator, a.resamplings, a.jumps).items():
            if a.only not in name:
                continue
            found = torch.tensor([off(drawn(way, y, operator, a.n, seed)) for seed in range(a.seeds)])
            cells = [f"{m:.3f} ± {d:.3f}" for m, d in zip(found.mean(0), found.std(0), strict=True)]
            table.setdefault(name, []).extend(cells)
            print(name, *cells, flush=True)
    header = ["method", "Gaussian: mean", "covariance", "share, modes that meet", "share, modes far apart"]
    print(contest.markdown(header, [[name, *cells] for name, cells in table.items()]))


if __name__ == "__main__":
    main()
