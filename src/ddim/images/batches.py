"""The order of training, and batches in it."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ddim.errors import InputError
from ddim.images.files import one_line
from ddim.images.image_set import ImageSet
from ddim.system.processes import without_signals


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


class Guarded(Dataset):
    """A set whose refusals come as values: an exception in a worker process would arrive as its whole traceback."""

    def __init__(self, images: ImageSet):
        self.images = images

    def __getitem__(self, i: int) -> tuple[Tensor, int] | InputError:
        try:
            return self.images.good(i)
        except InputError as error:
            return error


def stack(items: Sequence[tuple[Tensor, int] | InputError]) -> tuple[Tensor, Tensor] | InputError:
    """Images (B, C, H, W) and their numbers (B,), or the first refusal."""
    for item in items:
        if isinstance(item, InputError):
            return item
    images, numbers = zip(*items, strict=True)
    return torch.stack(images), torch.tensor(numbers)


def batches(images: Tensor | ImageSet, index: Iterator[Sequence[int]], workers: int = 0) -> Iterator[Tensor]:
    """(B, C, H, W) uint8 for each batch of indices: by indexing a tensor, or decoded ahead by `workers` processes.

    Raises InputError on a broken image, and where a process ends before its time.
    """
    return (found for found, _ in numbered(images, index, workers))


def numbered(
    images: Tensor | ImageSet, index: Iterator[Sequence[int]], workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """The same, with the numbers (B,) of the images: another's where a broken one is passed over."""
    if isinstance(images, Tensor):
        return ((images[i], torch.tensor(i)) for i in index)
    how = {"num_workers": workers, "collate_fn": stack, "worker_init_fn": without_signals}
    return decoded(DataLoader(Guarded(images), batch_sampler=index, **how))


def decoded(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a loader; a refusal among them is raised."""
    try:
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise InputError(f"a process that decodes images has ended ({one_line(error)}); use fewer --workers") from None
