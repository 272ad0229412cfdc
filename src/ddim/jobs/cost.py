"""What a long job will take: said before it begins, and how large its batches are for it."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat

import torch
from torch import Tensor

from ddim.diffusion.guidance import Guidance, guided
from ddim.diffusion.model import Model
from ddim.diffusion.process import Prediction, from_eps
from ddim.diffusion.sampling import default_batch_size, generate
from ddim.diffusion.schedule import Time, level
from ddim.diffusion.solvers import Solver, Stochastic, find
from ddim.diffusion.walk import last, walk
from ddim.networks.acceleration.compiled import Padded
from ddim.system.messages import warn

TIMED = 1000  # calls of the network, below which none is timed
LONG = 30 * 60  # seconds, above which a job says what it will take
WALK = 50  # calls of the network in a walk, below which none is timed for the size of the batches
LOST = 30  # seconds that a batch takes at most, where smaller ones do not cost too much: Ctrl-C loses what it has done
SLOWER = 1.15  # times the seconds an image, which smaller batches may cost at most


def calls_of(solver: str | Solver, times: Sequence[Time]) -> int:
    """Calls of the network in one walk, as far as they can be known."""
    return find(solver).evaluations(times) or len(times) - 1


class Asked:
    """A model that believes in nothing, and notes when it is asked."""

    def __init__(self, abar: Tensor):
        self.abar, self.times = abar, []

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        self.times.append(t)
        return from_eps(x, torch.zeros_like(x), level(self.abar, t))


def branches_of(guidance: float | Guidance, solver: str | Solver, times: Sequence[Time], abar: Tensor) -> int:
    """Evaluations of the network for an image in one walk, where guidance counts twice when it asks both branches."""
    guidance, solver = Guidance.of(guidance), find(solver)
    if guidance.interval is None:
        return calls_of(solver, times) * (1 + bool(guidance.doubles(0)))
    if isinstance(solver, Stochastic):
        solver = replace(solver, noise=repeat(torch.zeros(())))
    asked = Asked(abar)
    last(walk(asked, torch.zeros(1, 1, 1, 1), times, solver))
    return sum(1 + bool(guidance.doubles(t)) for t in asked.times)


@torch.no_grad()
def seconds_of_ddpm(model: Model, n: int, measured: int = 5) -> float:
    """About the seconds in which DDPM makes n images in all T steps: `measured` of these are taken, after a first."""
    times = range(model.T, max(model.T - measured - 2, -1), -1)
    moments = generate(model, range(n), list(times), eta=1.0, label=0 if model.classes else None)
    next(moments)
    begun = time.perf_counter()
    last(moments).x.sum().item()  # a GPU is waited for
    return (time.perf_counter() - begun) / (len(times) - 2) * model.T


@torch.no_grad()
def warm_up(model: Model, size: int, calls: int) -> None:
    """Call the network once: the first call is slow, and no cell of a table's to pay. Then `foretell`."""
    guided(model, 0 if model.classes else None)(torch.zeros(size, *model.shape, device=model.device), model.T)
    foretell(model, size, calls)


def foretell(model: Model, size: int, calls: int) -> None:
    """Say how long so many calls of the network will take, with `size` images each, where that is long."""
    if calls < TIMED:
        return
    seconds = seconds_of_a_call(model, size)
    if (total := calls * seconds) > LONG:
        how = f"{calls:,} calls of the network with {size} images, {seconds:.2g} s each on {model.device.type}"
        warn(f"this will take about {total / 3600:.1f} hours: {how}; fewer steps or images take less")


@torch.no_grad()
def seconds_of_a_call(model: Model, size: int) -> float:
    """The seconds in which the network is called with so many images: the second time, for the first call is slow."""
    asked = guided(model, 0 if model.classes else None)
    x, seconds = torch.zeros(size, *model.shape, device=model.device), 0.0
    for _ in range(2):
        begun = time.perf_counter()
        asked(x, model.T).x0.sum().item()  # a GPU is waited for
        seconds = time.perf_counter() - begun
    return seconds


def batch_size_for(model: Model, n: int, calls: int) -> int:
    """The size of the batches of n images whose walks call the network so often, where none is said: what fits; half of
    it, and so on, as long as a batch would take more than LOST seconds and an image not SLOWER.

    A quarter is timed first on a CPU, where that is as fast an image, and the whole on a GPU, where it is not.
    """
    size = default_batch_size(model)
    if calls < WALK or isinstance(model.network, Padded):
        return size
    few = min(n, max(1, size // 4) if model.device.type == "cpu" else size)
    each = seconds_of_a_call(model, few) / few
    while size > 1 and min(size, n) * calls * each > LOST:
        half = size // 2
        if half < few and seconds_of_a_call(model, half) / half > SLOWER * each:
            break
        size = half
    return size
