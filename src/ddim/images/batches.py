"""The order of training, and batches in it."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ddim.images.image_set import ImageSet


def order(n: int, batch_size: int, seed: int, first: int = 0) -> Iterator[list[int]]:
    """Batches of indices, endless, from batch `first` on: one shuffle of range(n) after another, end to end."""
    epoch, offset = divmod(first * batch_size, n)
    queue: list[int] = []
    while True:
        while len(queue) < batch_size:
            queue += np.random.default_rng([seed, epoch]).permutation(n)[offset:].tolist()
            epoch, offset = epoch + 1, 0
        yield queue[:batch_size]
        queue = queue[batch_size:]


def batches(images: Tensor | ImageSet, index: Iterator[Sequence[int]], workers: int = 0) -> Iterator[Tensor]:
    """(B, C, H, W) uint8 for each batch of indices: by indexing a tensor, or decoded ahead by `workers` processes."""
    if isinstance(images, Tensor):
        return (images[i] for i in index)
    return iter(DataLoader(images, batch_sampler=index, num_workers=workers, collate_fn=torch.stack))
