"""A set of undecoded pictures, and how one picture of any size and mode becomes bytes for a network."""

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from ddim.errors import InputError


def fit(picture: Image.Image, size: int, channels: int) -> Tensor:
    """A picture of any mode and size -> (channels, size, size) uint8: upright, centre-cropped, resized antialiased."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits a sample: keep the upper 8, which Pillow's convert would clip
        picture = Image.fromarray((np.asarray(picture, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    array = np.array(picture).reshape(size, size, channels)
    return torch.from_numpy(array).permute(2, 0, 1)  # (C, H, W)


class Pictures(Dataset):
    """A source of undecoded pictures; `pictures[i]` decodes one. Subclasses say how to open and name number i."""

    crop: tuple[int, int, int, int] | None = None  # left, upper, right, lower, taken before all else

    def __init__(self, size: int, channels: int, skip_broken: bool = False):
        self.size, self.channels, self.skip_broken = size, channels, skip_broken

    def open(self, i: int) -> Image.Image:
        raise NotImplementedError

    def name(self, i: int) -> str:
        raise NotImplementedError

    def identity(self) -> str:
        """A text that changes when the pictures do; empty where they are too few to be worth a cache."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def decode(self, i: int) -> Tensor | None:
        """(C, H, W) uint8; a broken picture is an InputError, or None with `skip_broken`."""
        try:
            with self.open(i) as picture:
                return fit(picture.crop(self.crop) if self.crop else picture, self.size, self.channels)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if self.skip_broken:
                return None
            reason = "cannot be identified" if "identify" in str(error) else str(error)
            raise InputError(
                f"{self.name(i)}: not a readable picture ({reason}); remove it or pass --skip-broken"
            ) from None

    def __getitem__(self, i: int) -> Tensor:
        """(C, H, W) uint8. With `skip_broken`, a broken picture's place is taken by the next good one."""
        for j in range(len(self)):
            if (picture := self.decode((i + j) % len(self))) is not None:
                return picture
        raise InputError(f"{self.name(i)}: no picture here can be read")


class Array(Pictures):
    """Pictures that lie in memory, or in a memory map, as (N, H, W, C) or (N, H, W) uint8."""

    def __init__(self, source: str, images: np.ndarray, identity: str, size: int, channels: int):
        super().__init__(size, channels)
        self.source, self.images, self.told = source, images, identity
        if not len(images):
            raise InputError(f"{source}: holds no pictures")

    def open(self, i: int) -> Image.Image:
        return Image.fromarray(self.images[i])

    def name(self, i: int) -> str:
        return f"{self.source}, picture {i}"

    def identity(self) -> str:
        return self.told

    def __len__(self) -> int:
        return len(self.images)
