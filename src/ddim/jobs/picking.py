"""A sheet of some of the images that were sampled, by their numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddim.errors import InputError, check_whole, listed
from ddim.jobs.image_files import Pngs
from ddim.plots import sheets


def check_pick(pick: Sequence[int], n: int) -> None:
    """Raise InputError unless every number is one of n images."""
    for k in listed("pick", pick):
        check_whole("a picked image", k, 0)
        if k >= n:
            raise InputError(f"image {k} cannot be picked: the numbers of {n} images go from 0 to {n - 1}")


def picked(images: str | Path, pick: Sequence[int]) -> Path:
    """Draw the images of these numbers, in this order, as one sheet beside where they lie, and return its place.

    images: the folder of PNG files or the .npz file that `sample_files` gives. Raises InputError.
    """
    images = Path(images)
    some = _of_batch(images, pick) if images.suffix == ".npz" else _of_folder(images, pick)  # (K, C, H, W) uint8
    folder = images.parent if images.suffix == ".npz" else images
    return sheets.save(sheets.grid(some), folder.with_name(f"{folder.name}-picked.png"))


def _of_folder(folder: Path, pick: Sequence[int]) -> Tensor:
    files = Pngs(folder)
    if lacking := [k for k in pick if not files.file(k).is_file()]:
        raise InputError(f"{folder}: has no image {lacking[0]}")
    return torch.cat([files.read(range(k, k + 1)) for k in pick])


def _of_batch(file: Path, pick: Sequence[int]) -> Tensor:
    with np.load(file) as held:
        return torch.from_numpy(held["arr_0"][list(pick)]).permute(0, 3, 1, 2)
