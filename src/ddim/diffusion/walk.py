"""The walk along a time grid: the one loop of sampling and encoding."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor

from ddim.diffusion.model import Denoiser, check_images, levels
from ddim.diffusion.process import Prediction
from ddim.diffusion.schedule import Time, check_time
from ddim.diffusion.solvers import find, of_model
from ddim.diffusion.solvers.contract import Solver
from ddim.errors import InputError, listed


class Moment(NamedTuple):
    """Where a walk is after a step."""

    x: Tensor  # (N, C, H, W) at the time that the step led to
    prediction: Prediction  # of the network, at the time that the step left
    state: Any  # the solver's own; goes back in as `state` to continue the walk


def walk(
    model: Denoiser, x: Tensor, times: Sequence[Time], solver: str | Solver = "ddim", state: Any = None
) -> Iterator[Moment]:
    """Carry x along `times`: falling times sample, rising times encode. Yields (x, Prediction, state) after each step.

    x: (N, C, H, W) at times[0].  times: numbers in 0..T, or (N,) tensors for a time per image.
    solver: a name of `ddim.SOLVERS`, "tuned" (on its own times), or a value.
    state: where another walk of the same solver ended.
    Nothing is kept: memory does not grow with the number of steps. Raises InputError, also where the walk ends in
    numbers that are not finite.
    """
    path = [check_time(len(levels(model)) - 1, t) for t in listed("times", times)]
    solver = find(of_model(model, solver, len(path) - 1))
    check_images(model, x)
    for i, (t, s) in enumerate(pairwise(path), 2):
        x, prediction, state = solver.step(model, x, t, s, state)
        if i == len(path):  # only there, for a GPU would have to be waited for
            check_finite(x)
        yield Moment(x, prediction, state)


def check_finite(x: Tensor) -> None:
    """Raise InputError where an x is NaN or infinite."""
    if not x.isfinite().all():
        raise InputError("the walk ended in NaN or infinity: the weights are damaged, or need --precision fp32")


def last(moments: Iterator[Moment]) -> Moment:
    """The moment at which a walk ends."""
    return deque(moments, maxlen=1)[0]
