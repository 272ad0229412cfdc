"""What to train in a given time: a pure function of the machine's speeds, the images and the time.

The rules come from measurements on CPU cores with CIFAR-10 (docs/training.md has them); beyond an hour of two
cores they are extrapolated. Nothing here imports torch, measures, or asks a clock.
"""

import math
from dataclasses import dataclass
from typing import Any

from ddim.training.settings import Settings

SIZES = (8, 16, 32, 64, 128, 256)
STEPS = {8: 0, 16: 2000, 32: 8000, 64: 8000, 128: 40_000}  # that a training has at least, for a batch to be so large
BATCHES = tuple(STEPS)
RATE = 2e-3  # the learning rate of a width of 32
FINE_STEPS = 20_000  # of a training that begins with a model, at the learning rate of its settings
# Images that a network has to see for each of its parameters, to be worth its time; at 64×64 eight times as many.
LEAST_A_PARAMETER = 1 / 100  # a width of 32, up to 32×32
LARGER_A_PARAMETER = 1 / 20  # a width of 32, of larger images
WIDER_A_PARAMETER = 1 / 10  # a larger width


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
        """Its settings: halved down to about 8 positions a side, with attention there. Of a width of 128 they are the
        paper's: 35.7 M parameters at 32×32."""
        paper, small = self.ch >= 128, self.grid <= 16
        sides = [self.grid]
        while sides[-1] > (4 if paper or small else 8) and sides[-1] % 2 == 0:
            sides.append(sides[-1] // 2)
        attention = 16 if paper and 16 in sides[1:] else 8 if 8 in sides[1:] else sides[-1]
        return {
            "size": self.size,
            "patch": self.size // self.grid,
            "ch": self.ch,
            "mult": (1, *(2,) * (len(sides) - 1)),
            "attention": (attention,) if len(sides) > 1 and 8 <= attention <= 16 else (),
            "layers": 2 if paper else 1,
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

    size: the only one that comes into question. Networks 32 wide come first, from the smallest images to the largest;
    once 32×32 can be learned, a width of 64 comes before larger images. At last come wider ones for the largest. There
    are patches only beyond 64×64, and then no width of 32: up to there, fewer images without them teach more.
    """
    top = size or largest(data.side)
    sizes = [size] if size else [s for s in SIZES if s <= top and (s >= 16 or s == top)]
    widths = {s: (64,) if grid(s) < s else (32, 64) if s in (32, top) else (32,) for s in sizes}
    return [Rung(s, grid(s), ch) for s in sizes for ch in widths[s]] + [Rung(top, grid(top), ch) for ch in (96, 128)]


def grid(size: int) -> int:
    """The positions a side that a network works on: 64 at most, if the size can be divided so."""
    patch = 1
    while size // patch > 64 and size % (2 * patch) == 0 and patch < 8:
        patch *= 2
    return size // patch


def wanted(rung: Rung, parameters: int) -> float:
    """The images that a network has to see, for it to do better than the one before it on the ladder."""
    least = LEAST_A_PARAMETER if rung.size <= 32 else LARGER_A_PARAMETER
    return parameters * (least if rung.ch <= 32 else WIDER_A_PARAMETER) * max(1, rung.size / 32) ** 3


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
    begun: bool = False,
) -> Settings:
    """The same for a network that is given. tuned: by a preset, so that the batch, the learning rate and the dropout of
    the settings stay too.  begun: with a model, so that the batch is the largest, and the learning rate the least."""
    o, n = settings.optimiser, settings.network
    batch = o.batch_size if tuned or "batch_size" in said else None
    found = course(speed, data, seconds, n.ch, batch, shares)
    if begun and batch is None and found["batch_size"] > o.batch_size:
        found = course(speed, data, seconds, n.ch, o.batch_size, shares)
    found["ema"] = min(o.ema, found["ema"])
    if tuned:
        found |= {"lr": o.lr, "dropout": n.dropout}
    elif begun:  # few steps have to be larger ones
        steps = max(1, speed.images * seconds / found["batch_size"])
        lr = min(found["lr"] / 2, o.lr * math.sqrt(FINE_STEPS / steps))
        found |= {"lr": max(o.lr, float(f"{lr:.1e}")), "dropout": n.dropout}
    return settings.changed(**{name: value for name, value in found.items() if name not in said})
