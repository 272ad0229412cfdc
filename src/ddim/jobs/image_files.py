"""Where a job keeps its images: a file an image, or a file a batch. Damaged files count as missing."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddim.plots import sheets
from ddim.system.files import PART, is_part, replacing

PNG_END = b"IEND\xaeB`\x82"  # the last chunk; Pillow does not miss it


@dataclass(frozen=True)
class Pngs:
    """A file an image, named by its index."""

    out: Path

    def file(self, index: int) -> Path:
        return self.out / f"{index:05d}.png"

    def beyond(self, n: int) -> int:
        """How many images are there from index n on."""
        return sum(int(path.stem) >= n for path in self.out.glob("*.png") if re.fullmatch(r"[0-9]{5,}", path.stem))

    def has(self, indices: range, shape: Sequence[int]) -> bool:
        """Whether the images `indices`, each (C, H, W) = shape, are all there and whole."""
        ended = (self.file(k).exists() and self.file(k).read_bytes().endswith(PNG_END) for k in indices)
        return all(ended) and _whole(self.read, indices, shape)

    def write(self, indices: range, images: Tensor) -> None:
        """images: (N, C, H, W) uint8."""
        for k, image in zip(indices, images, strict=True):
            sheets.save(sheets.to_pil(image), self.file(k))

    def read(self, indices: range) -> Tensor:
        """(N, C, H, W) uint8."""
        return torch.stack([sheets.read(self.file(k)) for k in indices])


@dataclass(frozen=True)
class Shards:
    """A file a batch: (N, H, W, C) uint8 as .npy, named by the indices of its first image and of the one after it."""

    out: Path

    def file(self, indices: range) -> Path:
        return self.out / f"{indices.start:07d}-{indices.stop:07d}.npy"

    def has(self, indices: range, shape: Sequence[int]) -> bool:
        """Whether the images `indices`, each (C, H, W) = shape, are all there and whole."""
        return self.file(indices).exists() and _whole(self.read, indices, shape)

    def write(self, indices: range, images: Tensor) -> None:
        """images: (N, C, H, W) uint8."""
        written = BytesIO()  # on a full disk, numpy writes a part of a file without a word
        np.save(written, images.permute(0, 2, 3, 1).contiguous().numpy())
        with replacing(self.file(indices)) as part:
            part.write_bytes(written.getbuffer())

    def read(self, indices: range) -> Tensor:
        """(N, C, H, W) uint8."""
        return torch.from_numpy(np.load(self.file(indices))).permute(0, 3, 1, 2)


def _whole(read, indices: range, shape: Sequence[int]) -> bool:
    """Whether files can be read and hold what they should. A damaged one can make its reader raise nearly anything."""
    try:
        found = read(indices)
    except Exception:
        return False
    return found.dtype == torch.uint8 and tuple(found.shape) == (len(indices), *shape)


def clean_of(folder: Path, name: str) -> None:
    """Remove what killed processes left in a folder of files whose own name is like `name`, a regular expression.

    For a folder that other work may share: for the process that alone writes files of such names.
    """
    for part in folder.iterdir():
        if is_part(part) and re.fullmatch(name, part.name.removeprefix(PART).split("-", 2)[2]):
            part.unlink(missing_ok=True)


def pack(shards: Shards, batches: Sequence[range], path: Path) -> Path:
    """All shards as one .npz with arr_0, (n, H, W, C) uint8, as other tools read it; a shard at a time in memory."""
    first = shards.read(batches[0])
    header = {"descr": "|u1", "fortran_order": False, "shape": (batches[-1].stop, *first.shape[2:], first.shape[1])}
    with (
        replacing(path) as part,
        zipfile.ZipFile(part, "w") as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for indices in batches:
            file.write(shards.read(indices).permute(0, 2, 3, 1).contiguous().numpy())
    return path
