"""Per-image random streams: image k of seed s is the same whatever the batch, the order, the process or the device.

Draw number d of image k is a pure function of (s, k, d): a Philox counter generator keyed by (s, k) and started at
counter block d. It is computed on the CPU, so every device gets the same bits.
"""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import torch
from torch import Tensor

from ddim.errors import InputError


def check_seed(seed: int) -> None:
    """Raise InputError unless 0 ≤ seed < 2**64."""
    if not 0 <= seed < 2**64:
        raise InputError(f"seed must be from 0 to 2**64 - 1; got {seed}")


def normal(seed: int, images: Sequence[int], shape: Sequence[int], draw: int = 0) -> Tensor:
    """Standard normal noise, (len(images), *shape) float32 on the CPU. Draw 0 is x_T; draw i is the noise of step i."""
    check_seed(seed)
    out = np.empty((len(images), *shape), dtype=np.float32)
    for row, image in zip(out, images, strict=True):
        stream = np.random.Philox(key=[seed, image], counter=[0, 0, 0, draw])
        np.random.Generator(stream).standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(out)


def draws(
    seed: int, images: Sequence[int], shape: Sequence[int], like: Tensor | None = None, first: int = 1
) -> Iterator[Tensor]:
    """The endless noises of a batch, draw `first` onwards, on the device and in the dtype of `like`."""
    for draw in count(first):
        z = normal(seed, images, shape, draw)
        yield z if like is None else z.to(like)
