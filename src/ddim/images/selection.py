"""The images that a command line names: files, folders, parquet files and Hub ids, in the order they are named."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ddim.errors import InputError, check_whole, listed
from ddim.images.files import is_image
from ddim.images.image_set import ImageSet
from ddim.images.pixels import to_float
from ddim.images.sources import Folder, check_outside, find, located
from ddim.system.messages import warn


class File(Folder):
    """One image file."""

    def __init__(self, path: Path, size: int, channels: int):
        ImageSet.__init__(self, size, channels)
        self.root, self.files = path.parent, [path]


class Selection(ImageSet):
    """Several sources as one, in a model's size and channels. Says once on stderr that it resizes, or converts."""

    def __init__(self, sources: Sequence[str], shape: tuple[int, int, int], skip_broken: bool = False):
        channels, size, _ = shape
        super().__init__(size, channels, skip_broken)
        sources = [sources] if isinstance(sources, str | Path) else listed("images", sources)
        if not sources:
            raise InputError("no images named: give image files, folders, or a .parquet file")
        self.sources = list(map(str, sources))
        self.parts = [self._part(source) for source in self.sources]
        self.ends = list(accumulate(map(len, self.parts)))
        self.kept: list[int] | None = None
        self.said: set[str] = set()
        if skip_broken:
            kept = [i for i in range(self.ends[-1]) if self.decode(i) is not None]
            if not kept:
                raise InputError(f"{self.name(0)}: none of the {self.ends[-1]} images can be read")
            if len(kept) < self.ends[-1]:
                warn(f"left out {self.ends[-1] - len(kept)} of {self.ends[-1]} images, which cannot be read")
            self.kept = kept

    def _part(self, source: str) -> ImageSet:
        path, _, _ = located(source)
        if is_image(path.name) and path.is_file():
            return File(path, self.size, self.channels)
        return find(source, self.size, self.channels)

    def _locate(self, i: int) -> tuple[ImageSet, int]:
        i = i if self.kept is None else self.kept[i]
        k = bisect_right(self.ends, i)
        return self.parts[k], i - (self.ends[k - 1] if k else 0)

    def opened(self, i: int) -> Image.Image:
        """Image i as it is, but for what its source crops away."""
        part, j = self._locate(i)
        return part.open(j).crop(part.crop) if part.crop else part.open(j)

    def open(self, i: int) -> Image.Image:
        image = self.opened(i)
        width, height = image.size
        if (width, height) != (self.size, self.size):
            self._say(f"{self.name(i)} is {width}×{height}", f"cropped and resized to {self.size}×{self.size}")
        mode = "L" if self.channels == 1 else "RGB"
        if image.mode != mode:
            self._say(f"{self.name(i)} is {image.mode}", f"converted to {mode}")
        return image

    def _say(self, what: str, treated: str) -> None:
        if treated not in self.said:
            self.said.add(treated)
            warn(f"{what}: {treated}, and so are others like it")

    def name(self, i: int) -> str:
        part, j = self._locate(i)
        return part.name(j)

    def outside(self, out: str | Path) -> "Selection":
        """These images, for a result in `out`. Raises InputError where that lies in a folder of theirs."""
        check_outside(out, *self.sources)
        return self

    def first(self, n: int | None) -> "Selection":
        """With the first n images only; all where n is None. Raises InputError."""
        if n is not None:
            check_whole("n", n)
            self.kept = (list(range(len(self))) if self.kept is None else self.kept)[:n]
        return self

    def label(self, i: int) -> str | None:
        """The name of the class of image i; None where nothing tells it."""
        part, j = self._locate(i)
        if part.labels is None or part.labels.numbers[j] < 0:
            return None
        return part.labels.classes[part.labels.numbers[j]]

    def __len__(self) -> int:
        return self.ends[-1] if self.kept is None else len(self.kept)

    def batch(self, indices: Sequence[int]) -> Tensor:
        """(len(indices), C, H, W) float32 in [−1, 1]."""
        return to_float(torch.stack([self.decode(i) for i in indices]))
