"""The paper's data sets in the form their authors distribute them. Nothing is unpickled, nothing is unpacked to disk.

CIFAR-10: cifar-10-binary.tar.gz, its folder, or one of its .bin files (Krizhevsky 2009).
STL-10: stl10_binary.tar.gz, its folder, or one of its .bin files (Coates et al. 2011).
CelebA: img_align_celeba.zip or its folder, with the crop the paper used (Liu et al. 2015).
LSUN (Yu et al. 2015) comes as lmdb folders, see `databases.Lmdb`.
"""

import re
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from ddim.errors import InputError
from ddim.images.files import identity_of, is_resource, unreadable
from ddim.images.image_set import ArrayImages, ImageSet
from ddim.images.labels import Labels, by_number

CELEBA_CROP = (25, 57, 153, 185)  # centre (89, 121) ± 64 of 178×218: left, upper, right, lower
# The classes of both, in the order of their numbers.
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
# Data set -> split -> the names of its files. The first split that is there is what an unnamed one means.
FILES = {
    "CIFAR-10": {"train": r"data_batch_\d\.bin", "test": r"test_batch\.bin"},
    "STL-10": {"unlabeled": r"unlabeled_X\.bin", "train": r"train_X\.bin", "test": r"test_X\.bin"},
}


def crop_of(path: Path) -> tuple[int, int, int, int] | None:
    """The crop for what lies at `path`: CelebA's for its aligned images, by their published name."""
    return CELEBA_CROP if "img_align_celeba" in path.resolve().as_posix() else None


def published(path: Path, split: str, size: int, channels: int) -> ImageSet | None:
    """The CIFAR-10 or STL-10 at `path`, else None. Raises InputError on a damaged one."""
    try:
        found = _records(path, split)
    except Exception as error:  # what a broken archive provokes in tarfile and zlib
        raise unreadable(path, "an archive", error) from None
    if found is None:
        return None
    images, parts, name = found
    identity, labels = identity_of([part.file for part in parts]) + split, partial(_labels, path, name, parts)
    made = ArrayImages(str(path), images, identity, size, channels, labels)
    made.published_as = name
    return made


@dataclass(frozen=True)
class Part:
    """One file of a data set, on disk or in a tar archive, of which nothing is read yet."""

    where: str  # what to call it
    file: Path  # on disk
    size: int
    member: tarfile.TarInfo | None = None

    @property
    def name(self) -> str:
        return PurePosixPath(self.member.name if self.member else self.file.name).name


def _records(path: Path, split: str) -> tuple[np.ndarray, list[Part], str] | None:
    """The images (N, H, W, 3) uint8 of a CIFAR-10 or STL-10 archive, folder or file, and the files they lie in."""
    parts = _parts(path)
    for name, patterns in FILES.items():
        record, limit, form = FORMS[name]
        for pattern in [patterns.get(split, "no such split")] if split else patterns.values():
            if chosen := [part for part in parts if re.fullmatch(pattern, part.name)]:
                for part in chosen:
                    _check(part, record, limit)
                images = [form(raw.reshape(-1, record)) for raw in _read(chosen)]
                whole = images[0] if len(images) == 1 else np.concatenate(images)  # one alone stays a memory map
                return whole, chosen, name
    return None


def _labels(path: Path, name: str, chosen: list[Part]) -> Labels | None:
    """The labels of a data set: the first byte of each record of CIFAR-10; files of their own, from 1, of STL-10."""
    if name == "CIFAR-10":
        record = FORMS[name][0]
        return by_number(np.concatenate([raw.reshape(-1, record)[:, 0] for raw in _read(chosen)]), CIFAR10)
    beside = path.parent if path.is_file() and path.suffix == ".bin" else path
    wanted = {part.name.replace("_X", "_y") for part in chosen}
    found = [part for part in _parts(beside) if part.name in wanted]
    return by_number(np.concatenate([*_read(found)]).astype(np.int64) - 1, STL10) if found else None


def _parts(path: Path) -> list[Part]:
    """The files at `path` that a data set can have, in order."""
    if path.is_dir():
        files = sorted(f for f in path.rglob("*.bin") if f.is_file())
        return [Part(str(file), file, file.stat().st_size) for file in files]
    if path.suffix == ".bin":
        return [Part(str(path), path, path.stat().st_size)]
    if not path.name.endswith((".tar.gz", ".tgz", ".tar")):
        return []
    with tarfile.open(path) as archive:
        members = [m for m in archive if m.isfile() and m.name.endswith(".bin") and not is_resource(m.name)]
    return [Part(f"{path}/{m.name}", path, m.size, m) for m in sorted(members, key=lambda m: m.name)]


def _check(part: Part, record: int, limit: int) -> None:
    """Raises InputError unless a file is some whole records, and no more than its data set has: before it is read."""
    if part.size % record or not part.size:
        raise InputError(
            f"{part.where}: truncated: its {part.size} bytes are no multiple of {record}, an image's; copy it again"
        )
    if part.size > limit * record:
        raise InputError(
            f"{part.where}: its {part.size:,} bytes are more than the {limit:,} images that it should hold"
        )


def _read(parts: list[Part]) -> Iterator[np.ndarray]:
    """The bytes (n,) uint8 of each, mapped where they lie on disk."""
    with ExitStack() as stack:
        archive = stack.enter_context(tarfile.open(parts[0].file)) if parts[0].member else None
        for part in parts:
            if archive is None:
                yield np.memmap(part.file, np.uint8, "r")
            else:
                yield np.frombuffer(archive.extractfile(part.member).read(), np.uint8)


def _cifar10(records: np.ndarray) -> np.ndarray:
    """Records of one label and 3×32×32 bytes, by rows -> (N, 32, 32, 3)."""
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _stl10(records: np.ndarray) -> np.ndarray:
    """Records of 3×96×96 bytes, by columns -> (N, 96, 96, 3)."""
    return records.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)


# Bytes of one image with its label, the most images that a file has, and how they become an array.
FORMS = {"CIFAR-10": (1 + 3 * 32 * 32, 60_000, _cifar10), "STL-10": (3 * 96 * 96, 100_000, _stl10)}
