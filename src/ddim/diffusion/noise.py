"""Per-image random streams: image k of seed s is the same whatever the batch, the order, the process or the device.

Draw number d of image k is a pure function of (s, k, d): a Philox counter generator keyed by (s, k) and started at
counter block d. It is computed on the CPU, so every device gets the same bits.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from numbers import Integral
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ddim.errors import InputError, shown
from ddim.system.machine import sent

A, B = TypeVar("A"), TypeVar("B")


def check_seed(seed: int) -> None:
    """Raise InputError unless a seed is a whole number, 0 ≤ seed < 2**64."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**64:
        raise InputError(f"seed must be from 0 to 2**64 - 1; got {shown(seed)}")


def normal(seed: int, images: Sequence[int], shape: Sequence[int], draw: int = 0) -> Tensor:
    """Standard normal noise, (len(images), *shape) float32 on the CPU, a stream for each image of a seed. Draw 0 is
    x_T; draw i is the noise of step i. Raises InputError unless 0 ≤ seed < 2**64.
    """
    check_seed(seed)
    out = np.empty((len(images), *shape), dtype=np.float32)
    for row, image in zip(out, images, strict=True):
        stream = np.random.Philox(key=[seed, image], counter=[0, 0, 0, draw])
        np.random.Generator(stream).standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(out)


def draws(
    seed: int, images: Sequence[int], shape: Sequence[int], like: Tensor | None = None, first: int = 1
) -> Iterator[Tensor]:
    """The endless noises of a batch, draw `first` onwards, on the device and in the dtype of `like`.

    For a GPU they are drawn and sent while it is busy with the step before.
    """
    draw = partial(normal, seed, images, shape)
    here = like is None or like.device.type == "cpu"
    for z in (map if here else ahead)(draw, count(first)):
        yield z if like is None else sent(z, like.device).to(like.dtype)


def ahead(function: Callable[[A], B], arguments: Iterable[A]) -> Iterator[B]:
    """map(function, arguments), with the next result computed by a thread while the caller is at the last one."""
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for argument in arguments:
            ready, waiting = waiting, pool.submit(function, argument)
            if ready is not None:
                yield ready.result()
        if waiting is not None:
            yield waiting.result()
