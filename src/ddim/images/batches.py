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

    def __getitem__(self, i: int) -> Tensor | InputError:
        try:
            return self.images[i]
        except InputError as error:
            return error


def stack(items: Sequence[Tensor | InputError]) -> Tensor | InputError:
    """(B, C, H, W), or the first refusal."""
    return next((item for item in items if isinstance(item, InputError)), None) or torch.stack(items)


def batches(images: Tensor | ImageSet, index: Iterator[Sequence[int]], workers: int = 0) -> Iterator[Tensor]:
    """(B, C, H, W) uint8 for each batch of indices: by indexing a tensor, or decoded ahead by `workers` processes.

    Raises InputError on a broken image, and where a process ends before its time.
    """
    if isinstance(images, Tensor):
        return (images[i] for i in index)
    how = {"num_workers": workers, "collate_fn": stack, "worker_init_fn": without_signals}
    return decoded(DataLoader(Guarded(images), batch_sampler=index, **how))


def decoded(loader: DataLoader) -> Iterator[Tensor]:
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
