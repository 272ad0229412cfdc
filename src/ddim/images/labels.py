"""The classes of images: named by the folders that they lie in, or numbered or named beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}  # folders that are no classes
NAMES = ("label", "labels", "fine_label", "class", "category", "target", "y")  # of a column or an array, best first


@dataclass(frozen=True)
class Labels:
    """classes: their names, by their number.  numbers: (N,) int64, the class of each image, −1 where it has none."""

    classes: tuple[str, ...]
    numbers: np.ndarray

    def counts(self) -> list[int]:
        """How many images each class has."""
        return np.bincount(self.numbers[self.numbers >= 0], minlength=len(self.classes)).tolist()


def by_folder(names: Sequence[str]) -> Labels | None:
    """The classes of images named by their paths, `cat/1.png`: the first folder in which they differ, past the names
    of splits. None where they all lie in one folder, or some of them in no class's.
    """
    folders = [PurePosixPath(name).parent.parts for name in names]
    while folders and all(folders) and (len({parts[0] for parts in folders}) == 1 or _are_splits(folders)):
        folders = [parts[1:] for parts in folders]
    if not folders or not all(folders):
        return None
    return by_name([parts[0] for parts in folders])


def _are_splits(folders: Sequence[tuple[str, ...]]) -> bool:
    return all(parts[0].lower() in SPLITS for parts in folders)


def by_name(names: Sequence[str | None]) -> Labels:
    """The classes of images by the name of each one's class, in alphabetical order; None is no class."""
    classes = sorted({name for name in names if name is not None})
    number = {name: k for k, name in enumerate(classes)} | {None: -1}
    return Labels(tuple(classes), np.array([number[name] for name in names], np.int64))


def by_number(values: Sequence[int | None] | np.ndarray, classes: Sequence[str] | None = None) -> Labels:
    """The classes of images by the number of each one's class. Without names, the numbers that occur are the names.

    A number below 0, None, or one past the names is no class.
    """
    numbers = np.array([-1 if value is None else value for value in values], np.int64)
    if classes is None:
        found, places = np.unique(numbers[numbers >= 0], return_inverse=True)
        dense = np.full(len(numbers), -1, np.int64)
        dense[numbers >= 0] = places
        return Labels(tuple(map(str, found.tolist())), dense)
    return Labels(tuple(classes), np.where(numbers < len(classes), numbers, -1).clip(-1))
