"""Draws the figures of docs/understand.md: python tools/method_figures.py docs/understand

The paths are of one number that is −1 or 1 with a little spread, of which the best network is known exactly.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib.figure import Figure
from torch import Tensor

import ddim
from ddim.diffusion.process import from_eps
from ddim.diffusion.schedule import level

INK, PALE = "#3f51b5", "#9fa8da"


@dataclass(frozen=True)
class TwoNumbers:
    """The exact model of data that are −1 or 1, each with deviation 0.1."""

    abar: Tensor
    shape = (1, 1, 1)

    def __call__(self, x: Tensor, t) -> ddim.Prediction:
        here = level(self.abar, t, x)
        asked = torch.where(here == 1, self.abar[1], here)
        total = asked * 0.01 + 1 - asked  # the variance around each of the two
        mean = (asked.sqrt() * x / total).tanh()  # E of the sign
        return from_eps(x, (1 - asked).sqrt() * (x - asked.sqrt() * mean) / total, here)


def walked(n: int = 10, seed: int = 7) -> tuple[list[int], Tensor, Tensor]:
    """One image of `cifar10` in n steps: the times, x_t (n + 1, C, H, W), and the image predicted at each."""
    model = ddim.load("cifar10", "cpu")
    grid, x = ddim.schedule.times(model.T, n), ddim.noise.normal(seed, [0], model.shape)
    noisy, clean = [x], []
    with torch.no_grad():
        for moment in ddim.walk(model, x, grid):
            noisy.append(moment.x), clean.append(moment.prediction.x0)
    return grid, torch.cat(noisy).float(), torch.cat([*clean, noisy[-1]]).float()


def forward(out: Path) -> None:
    """One image at rising noise levels (4)."""
    abar, image = ddim.schedule.linear(), walked()[2][-1:]
    eps = ddim.noise.normal(0, [0], image.shape[1:])
    times = (0, 50, 100, 200, 300, 500, 700, 1000)
    noisy = [ddim.process.marginal(image, eps, abar[t]).float() for t in times]
    sheet = ddim.plots.rows([torch.cat(noisy)], heads=[f"t = {t}" for t in times], scale=3)
    ddim.plots.save(sheet, out / "forward.png")


def reverse(out: Path) -> None:
    """x_t above the predicted image, in ten steps."""
    grid, noisy, clean = walked()
    sheet = ddim.plots.rows([noisy, clean], ["x_t", "x0"], heads=[f"t = {t}" for t in grid], scale=2)
    ddim.plots.save(sheet, out / "reverse.png")


def path(model: TwoNumbers, x: Tensor, eta: float, steps: int) -> Tensor:
    """x along the walk of `steps` steps, (steps + 1, N)."""
    how = {"eta": eta, "seed": 1, "x": x, "clip": False, "shape": model.shape}
    walk = ddim.generate(model, range(len(x)), ddim.schedule.times(1000, steps), **how)
    return torch.stack([x, *(moment.x for moment in walk)]).flatten(1)


def paths(out: Path) -> None:
    """Many short steps with noise, and without; ten long ones over them."""
    model = TwoNumbers(ddim.schedule.linear())
    x = torch.linspace(-2.2, 2.2, 12, dtype=torch.float64)[:, None, None, None]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, eta in zip(axes, (1.0, 0.0), strict=True):
        axis.plot(ddim.schedule.times(1000, 500), path(model, x, eta, 500), color=PALE, linewidth=0.9)
        axis.plot(ddim.schedule.times(1000, 10), path(model, x, eta, 10), ".", color=INK, markersize=4)
        axis.set(xlabel="t", title=f"η = {eta:g}: {'DDPM' if eta else 'DDIM'}", xlim=(1000, 0))
    axes[0].set_ylabel("x")
    axes[1].plot([], [], color=PALE, label="500 steps"), axes[1].plot([], [], ".", color=INK, label="10 steps")
    axes[1].legend(loc="upper left", fontsize="small")
    figure.savefig(out / "paths.png", dpi=110)


def error(out: Path) -> None:
    """The distance of S steps to very many, for methods of two orders."""
    model, x = TwoNumbers(ddim.schedule.linear()), ddim.noise.normal(0, range(500), (1, 1, 1)).double()

    def sampled(steps: int, solver: str) -> Tensor:
        how = {"noise": x, "spacing": "quadratic", "clip": False, "shape": model.shape}
        return ddim.sample(model, steps=steps, solver=solver, **how)

    end = sampled(1000, "ab3")
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axis, counts = figure.subplots(), (5, 10, 20, 50, 100, 200)
    for name, colour in (("ddim", PALE), ("ab3", INK)):
        far = [(sampled(S, name) - end).square().mean().sqrt().item() for S in counts]
        axis.plot(counts, far, ".-", color=colour, label=name)
    axis.set(xscale="log", yscale="log", xlabel="steps, quadratic grid", ylabel="distance to 1000 steps (rms)")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(out / "error.png", dpi=110)


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for draw in (forward, reverse, paths, error):
        draw(out)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/understand"))
