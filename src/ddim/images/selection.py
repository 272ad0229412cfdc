"""The pictures that a command line names: files, folders, parquet files and Hub ids, in the order they are named."""

import sys
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ddim.errors import InputError
from ddim.images.batches import to_float
from ddim.images.image_set import Pictures
from ddim.images.sources import Folder, find


class File(Folder):
    """One picture file."""

    def __init__(self, path: Path, size: int, channels: int):
        Pictures.__init__(self, size, channels)
        self.root, self.files = path.parent, [path]


class Selection(Pictures):
    """Several sources as one, in a model's size and channels. Says once on stderr that it resizes, or converts."""

    def __init__(self, sources: Sequence[str], shape: tuple[int, int, int], skip_broken: bool = False):
        channels, size, _ = shape
        super().__init__(size, channels, skip_broken)
        if not sources:
            raise InputError("no pictures named: give picture files, folders, or a .parquet file")
        self.parts = [self._part(source) for source in sources]
        self.ends = list(accumulate(map(len, self.parts)))
        self.told: set[str] = set()

    def _part(self, source: str) -> Pictures:
        path = Path(source).expanduser()
        Image.init()
        if path.is_file() and path.suffix.lower() in Image.EXTENSION:
            return File(path, self.size, self.channels)
        return find(source, self.size, self.channels)

    def _locate(self, i: int) -> tuple[Pictures, int]:
        k = bisect_right(self.ends, i)
        return self.parts[k], i - (self.ends[k - 1] if k else 0)

    def open(self, i: int) -> Image.Image:
        part, j = self._locate(i)
        picture = part.open(j).crop(part.crop) if part.crop else part.open(j)
        width, height = picture.size
        if (width, height) != (self.size, self.size):
            self._tell(f"{self.name(i)} is {width}×{height}", f"cropped and resized to {self.size}×{self.size}")
        mode = "L" if self.channels == 1 else "RGB"
        if picture.mode != mode:
            self._tell(f"{self.name(i)} is {picture.mode}", f"converted to {mode}")
        return picture

    def _tell(self, what: str, treated: str) -> None:
        if treated not in self.told:
            self.told.add(treated)
            print(f"ddim: {what}: {treated}, and so are others like it", file=sys.stderr)

    def decode(self, i: int) -> Tensor:
        try:
            return super().decode(i)
        except InputError as error:  # no option skips pictures here
            raise InputError(str(error).replace("; remove it or pass --skip-broken", "; leave it out")) from None

    def name(self, i: int) -> str:
        part, j = self._locate(i)
        return part.name(j)

    def __len__(self) -> int:
        return self.ends[-1]

    def batch(self, images: Sequence[int]) -> Tensor:
        """(len(images), C, H, W) float32 in [−1, 1]."""
        return to_float(torch.stack([self.decode(i) for i in images]))
