"""What a long job will take, said before it begins."""

import time
from collections.abc import Sequence

import torch

from ddim.diffusion.guidance import guided
from ddim.diffusion.model import Model
from ddim.diffusion.sampling import generate
from ddim.diffusion.schedule import Time
from ddim.diffusion.solvers import Solver, find
from ddim.diffusion.walk import last
from ddim.system.messages import warn

TIMED = 1000  # calls of the network, below which none is timed
LONG = 30 * 60  # seconds, above which a job says what it will take


def calls_of(solver: str | Solver, times: Sequence[Time]) -> int:
    """Calls of the network in one walk, as far as they can be known."""
    return find(solver).evaluations(times) or len(times) - 1


@torch.no_grad()
def seconds_of_ddpm(model: Model, n: int, measured: int = 5) -> float:
    """About the seconds in which DDPM makes n images in all T steps: `measured` of these are taken, after a first."""
    times = range(model.T, max(model.T - measured - 2, -1), -1)
    walk = generate(model, range(n), list(times), eta=1.0, label=0 if model.classes else None)
    next(walk)
    begun = time.perf_counter()
    last(walk).x.sum().item()  # a GPU is waited for
    return (time.perf_counter() - begun) / (len(times) - 2) * model.T


@torch.no_grad()
def warm_up(model: Model, size: int, calls: int) -> None:
    """Call the network once: the first call is slow, and no cell of a table's to pay. Then `foretell`."""
    guided(model, 0 if model.classes else None)(torch.zeros(size, *model.shape, device=model.device), model.T)
    foretell(model, size, calls)


@torch.no_grad()
def foretell(model: Model, size: int, calls: int) -> None:
    """Say how long so many calls of the network will take, with `size` images each, where that is long."""
    if calls < TIMED:
        return
    asked = guided(model, 0 if model.classes else None)
    x, seconds = torch.zeros(size, *model.shape, device=model.device), 0.0
    for _ in range(2):  # the first call is slow
        begun = time.perf_counter()
        asked(x, model.T).x0.sum().item()  # a GPU is waited for
        seconds = time.perf_counter() - begun
    if (total := calls * seconds) > LONG:
        how = f"{calls:,} calls of the network with {size} images, {seconds:.2g} s each on {model.device.type}"
        warn(f"this will take about {total / 3600:.1f} hours: {how}; fewer steps or images take less")
