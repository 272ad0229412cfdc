"""Draws the figure of the README: python tools/steps_figure.py docs/steps.png

The same latents, chosen among the first 60 of seed 0, each with its class and guidance 2, at 1000, 50, 10 and 5
evaluations of the bundled `cifar10` by the default solver; and the seconds for all eight, the least of three
measurements, of one for 1000.
"""

import sys
import time
from pathlib import Path

from torch import Tensor

import ddim

COUNTS = (1000, 50, 10, 5)
HOW = {"solver": "unipc", "spacing": "power-1.5"}
SEED, CHOSEN = 0, (10, 21, 6, 7, 18, 29, 28, 47)


def timed(model: ddim.Model, steps: int) -> tuple[Tensor, float]:
    """The images in so many evaluations, and the seconds that they took."""
    z, seconds = ddim.noise.normal(SEED, CHOSEN, model.shape), []
    classes = [model.classes[k % len(model.classes)] for k in CHOSEN]  # as `ddim sample --label all` has them
    for _ in range(1 if steps > 100 else 3):
        start = time.perf_counter()
        images = ddim.sample(model, noise=z, label=classes, guidance=2, steps=steps, **HOW)
        seconds.append(time.perf_counter() - start)
    return images, min(seconds)


def main(out: Path) -> None:
    model = ddim.prepare(ddim.load("cifar10"), "auto")
    timed(model, 2)  # the first call warms up
    found = {steps: timed(model, steps) for steps in COUNTS}
    labels = [f"{steps} evaluations, {seconds:.{0 if seconds > 10 else 1}f} s" for steps, (_, seconds) in found.items()]
    ddim.plots.save(ddim.show([images for images, _ in found.values()], labels, scale=2), out)
    print("\n".join(labels))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/steps.png"))
