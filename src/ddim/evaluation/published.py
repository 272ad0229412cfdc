"""The figures that the paper prints (Song, Meng & Ermon 2020), to set comparable measurements beside."""

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


HUB = {"uoft-cs/cifar10": "CIFAR-10", "cifar10": "CIFAR-10"}  # whose images are the published ones


def data_set(source: str, images) -> str | None:
    """Which of the paper's data sets a set of images is, by the data and not by anybody's name for it: the Hub's copy,
    or the archives as their authors publish them. None for any other, such as a re-encoded copy.
    """
    name = source.partition(":")[0]
    if name in HUB:
        return HUB[name]
    kind = getattr(images, "published_as", None)
    return kind if kind in FID else None


def fid(data: str | None, steps: int, eta: float | str) -> float | None:
    """Table 1's figure for a cell, where it prints one."""
    row = FID.get(data or "", {}).get(eta)
    return row[STEPS.index(steps)] if row and steps in STEPS else None
