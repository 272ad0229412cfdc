"""How many threads to compute with, on a CPU that other programs use too: by a trial, since no rule could know."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch
import torch.nn.functional as F

from ddim.system.messages import say

FASTER = 1.25  # times, that fewer threads have to be
TURNS = 3
LONG = 0.5  # seconds, after which there are no more turns


@contextmanager
def fitted(
    wanted: bool, clock: Callable[[], float] = time.perf_counter, told: bool = True
) -> Iterator[Callable[[], None]]:
    """Set the number of threads to what is fastest now, and again whenever what it yields is called; at the end to what
    it was.

    A thread waits for the others many times in a step. Where one of them has no core to itself, all have to wait until
    it gets its share of one: two threads beside three busy programs took 160 times as long as one alone.
    told: whether to say when fewer are faster.
    """
    most = torch.get_num_threads()

    def fit() -> None:
        if wanted and most > 1:
            before, now = torch.get_num_threads(), fastest(most, clock)
            torch.set_num_threads(now)
            if told and now < before:
                fewer = "1 thread is" if now == 1 else f"{now} threads are"
                say(f"other programs use the CPU too: {fewer} faster than {most} at present")

    try:
        fit()
        yield fit
    finally:
        torch.set_num_threads(most)


def fastest(most: int, clock: Callable[[], float] = time.perf_counter) -> int:
    """The number of threads, of `most`, half of it and 1, that compute a convolution and its gradients soonest, in the
    median of turns; `most`, unless another is a quarter faster. Leaves the number of threads changed."""
    taken: dict[int, list[float]] = {n: [] for n in (1, max(1, most // 2), most)}
    torch.set_num_threads(1)
    trial()  # the first sets up more than others do
    for _ in range(TURNS):
        for n, seconds in taken.items():
            torch.set_num_threads(n)
            start = clock()
            trial()
            seconds.append(clock() - start)
        if sum(map(sum, taken.values())) > LONG:
            break
    each = {n: median(seconds) for n, seconds in taken.items()}
    best = min(each, key=each.__getitem__)
    return best if FASTER * each[best] < each[most] else most


def trial() -> None:
    """Some milliseconds of what a training does."""
    x, weight = torch.ones(16, 64, 16, 16), torch.ones(64, 64, 3, 3, requires_grad=True)
    x.requires_grad_()
    for _ in range(2):
        F.silu(F.conv2d(x, weight, padding=1)).sum().backward()
