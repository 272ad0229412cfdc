"""The figures that the paper prints (Song, Meng & Ermon 2020), to set comparable measurements beside."""

from pathlib import Path

from ddim.images.image_set import ImageSet
from ddim.images.sources import Table

STEPS = (10, 20, 50, 100, 1000)

# Table 1: FID of 50,000 images, Inception features; a row an η, a column an S.
FID: dict[str, dict[float | str, tuple[float, ...]]] = {
    "CIFAR-10": {
        0.0: (13.36, 6.84, 4.67, 4.16, 4.04),
        0.2: (14.04, 7.11, 4.77, 4.25, 4.09),
        0.5: (16.66, 8.35, 5.25, 4.46, 4.29),
        1.0: (41.07, 18.36, 8.01, 5.78, 4.73),
        "hat": (367.43, 133.37, 32.72, 9.99, 3.17),
    },
    "CelebA": {
        0.0: (17.33, 13.73, 9.17, 6.53, 3.51),
        0.2: (17.66, 14.11, 9.51, 6.79, 3.64),
        0.5: (19.86, 16.06, 11.01, 8.09, 4.28),
        1.0: (33.12, 26.03, 18.48, 13.93, 5.98),
        "hat": (299.71, 183.83, 71.71, 45.20, 3.26),
    },
}

# Table 2: squared error a dimension of reconstructed CIFAR-10 test images in [0, 1], by S.
RECONSTRUCTION = {10: 0.014, 20: 0.0065, 50: 0.0023, 100: 0.0009, 200: 0.0004, 500: 0.0001, 1000: 0.0001}


HUB = {"uoft-cs/cifar10": "CIFAR-10"}  # the Hub's copies that hold the published images without loss
SHAPES = {"CIFAR-10": (3, 32, 32), "CelebA": (3, 64, 64)}  # of the images that the paper's models make
COUNTS = {"CIFAR-10": {"train": 50_000, "test": 10_000}, "CelebA": {"train": 202_599}}
CELEBA_SIZE = (178, 218)  # width and height of CelebA's aligned images


def data_set(source: str, images: ImageSet, split: str = "train") -> str | None:
    """Which of the paper's data sets `images` are: all of a split, in the shape that the paper measured.

    The data decide, not anybody's name for them: the archives as their authors publish them, or the Hub's copy. None
    for all else, such as a part, a folder that is only called so, or a copy in JPEG, which loses what FID sees.
    """
    name = images.published_as
    if isinstance(images, Table) and not Path(source_of := source.partition(":")[0].partition("#")[0]).exists():
        name = HUB.get(source_of)
    if name is None and images.crop and len(images) == COUNTS["CelebA"]["train"]:
        with images.whole(0) as first:
            name = "CelebA" if first.size == CELEBA_SIZE else None
    if name not in SHAPES or (images.channels, images.size, images.size) != SHAPES[name]:
        return None
    return name if len(images) == COUNTS[name].get(split) else None


def fid(data: str | None, steps: int, eta: float | str) -> float | None:
    """Table 1's figure for a cell, where it prints one."""
    row = FID.get(data or "", {}).get(eta)
    return row[STEPS.index(steps)] if row and steps in STEPS else None
