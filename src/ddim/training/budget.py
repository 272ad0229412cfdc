"""What to train in a given time: a pure function of the machine's speeds, the images and the time.

The rules come from measurements on 2 CPU cores with CIFAR-10 (docs/training.md has them); beyond an hour of such a
machine they are extrapolated. Nothing here imports torch, measures, or asks a clock.
"""

import math
from dataclasses import dataclass
from typing import Any

from ddim.training.settings import Settings

SIZES = (8, 16, 32, 64, 128, 256)
STEPS = {8: 0, 16: 2000, 32: 8000, 64: 8000, 128: 40_000}  # that a training has at least, for a batch to be so large
BATCHES = tuple(STEPS)
RATE = 2e-3  # the learning rate of a width of 32
IMAGES_A_PARAMETER = 1 / 20  # what a network has to see at least, at 32×32, for a wider one to be worth its time


@dataclass(frozen=True)
class DataFacts:
    """What there is to train on: how many, the median of their shorter sides, whether all are grey."""

    n: int
    side: int
    grey: bool = False


@dataclass(frozen=True)
class Rung:
    """A network to choose: for images of `size`, in patches that make a grid of `grid` positions a side."""

    size: int
    grid: int
    ch: int

    @property
    def network(self) -> dict[str, Any]:
        """Its settings: halved down to 4 positions a side, with attention at 8."""
        levels = max(1, int(math.log2(max(4, self.grid) / 4)) + 1)
        while self.grid % 2 ** (levels - 1):
            levels -= 1
        return {
            "size": self.size,
            "patch": self.size // self.grid,
            "ch": self.ch,
            "mult": (1, *(2,) * (levels - 1)),
            "attention": (8,) if self.grid > 8 else (),
            "layers": 1 if self.ch < 128 else 2,
            "groups": 16,
        }


@dataclass(frozen=True)
class Speed:
    """A network as this machine trains it, on all its processes: images a second, and its parameters."""

    images: float
    parameters: int


def largest(side: int) -> int:
    """The size at which images are trained whose shorter side is about `side`: little is to be enlarged."""
    return max(size for size in SIZES if size <= max(1.15 * side, SIZES[0]))


def ladder(data: DataFacts, size: int | None = None) -> list[Rung]:
    """The networks for some images, each to be preferred to those before it where the time allows it.

    size: the only one that comes into question. Small images without patches come first, at a width of 32: in minutes
    these are learned where larger ones, in patches at the same cost, are not. Then larger ones at a width of 64, then
    wider networks for the largest; and at last those without patches.
    """
    top = size or largest(data.side)
    grids = {8: 8, 16: 16, 32: 16, 64: 32, 128: 64, 256: 64}
    sizes = [size] if size else [s for s in SIZES if s <= top and (s >= 16 or s == top)]
    rungs = []
    for s in sizes:
        grid = grids.get(s) or s // max(p for p in (1, 2, 4, 8) if s % p == 0 and (p == 1 or s // p >= 16))
        widths = (32, 64) if len(sizes) == 1 else (32,) if s == sizes[0] else (64,)
        rungs += [Rung(s, grid, ch) for ch in widths]
    last = rungs[-1]
    rungs += [Rung(last.size, last.grid, ch) for ch in (96, 128)]
    return rungs + ([Rung(last.size, 2 * last.grid, 128)] if 16 <= last.grid < last.size else [])


def wanted(rung: Rung, parameters: int) -> float:
    """The images that a network has to see, for it to do better than the one before it on the ladder."""
    return parameters * IMAGES_A_PARAMETER * max(1, rung.size / 32) ** 2


def fits(rung: Rung, speed: Speed, seconds: float) -> bool:
    """Whether a network sees enough in so many seconds."""
    return speed.images * seconds >= wanted(rung, speed.parameters)


def choice(rungs: list[Rung], speeds: dict[Rung, Speed], seconds: float) -> Rung:
    """The last network of a ladder, of those that were measured, up to which all see enough in so many seconds; else
    the first one."""
    best = rungs[0]
    for rung in rungs[1:]:
        if rung not in speeds or not fits(rung, speeds[rung], seconds):
            break
        best = rung
    return best


def rate(ch: int, batch: int, steps: float) -> float:
    """The learning rate: less for a wider network, a batch below 16, and a long training."""
    return max(2e-4, RATE * math.sqrt(32 / ch * min(1, batch / 16) * min(1, 10_000 / steps)))


def course(speed: Speed, data: DataFacts, seconds: float, ch: int, batch: int | None, shares: int) -> dict[str, Any]:
    """The settings of a training in `seconds`, for a network that is `ch` wide: batch, learning rate, averaging, what
    is written and when.

    batch: where it is given.  shares: the batch is a multiple of it.
    """
    images = speed.images * seconds
    if batch is None:
        batch = max((b for b in BATCHES if images >= b * STEPS[b]), default=BATCHES[0])
        batch = max(shares, math.ceil(batch / shares) * shares)
    steps = max(1, images / batch)
    minutes = seconds / 60
    return {
        "batch_size": batch,
        "lr": float(f"{rate(ch, batch, steps):.1e}"),
        "warmup": int(min(500, steps / 20)),
        "decay": True,
        "held_out": 0.05,
        "ema": float(f"{1 - 1 / min(max(20, steps / 30), 10_000):.5f}"),
        "dropout": 0.1 if images > 100 * data.n else 0.0,
        "steps": 10**9,  # the time ends it
        "log_every": max(1, round(steps / 400)),
        "save_every": 10**9,
        "sample_every": 10**9,
        "save_minutes": round(min(10, max(0.5, minutes / 6)), 2),
        "sample_minutes": round(min(30, max(0.5, minutes / 6)), 2),
    }


def plan(
    rung: Rung,
    speed: Speed,
    data: DataFacts,
    seconds: float,
    settings: Settings,
    said: frozenset[str] = frozenset(),
    shares: int = 1,
) -> Settings:
    """All settings of a training of a chosen network; those that the caller has `said` stay.

    seconds: what is left of the time for steps.
    """
    batch = settings.optimiser.batch_size if "batch_size" in said else None
    found = rung.network | course(speed, data, seconds, rung.ch, batch, shares)
    found |= {"channels": 1 if data.grey else 3, "flip": not data.grey}
    return settings.changed(**{name: value for name, value in found.items() if name not in said})


def plan_fixed(
    speed: Speed,
    data: DataFacts,
    seconds: float,
    settings: Settings,
    said: frozenset[str] = frozenset(),
    shares: int = 1,
    tuned: bool = True,
) -> Settings:
    """The same for a network that is given. tuned: by a preset or a model, so that the batch, the learning rate and the
    dropout of the settings stay too."""
    o, n = settings.optimiser, settings.network
    batch = o.batch_size if tuned or "batch_size" in said else None
    found = course(speed, data, seconds, n.ch, batch, shares)
    found |= {"ema": min(o.ema, found["ema"])} | ({"lr": o.lr, "dropout": n.dropout} if tuned else {})
    return settings.changed(**{name: value for name, value in found.items() if name not in said})
