"""How one image of any size and mode becomes bytes for a network, and bytes become numbers and back."""

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

ORIENTATION = 0x0112  # the one field of EXIF that is read
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF says that it is seen; as it is where that cannot be read."""
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # broken EXIF raises whatever its bytes provoke, and the pixels are whole
        turn = None
    return image if turn is None else image.transpose(turn)


def to_8_bits(image: Image.Image) -> Image.Image:
    """Images of 16 bits and of floating point numbers as 8 bits a sample, which Pillow's convert would clip.

    Whole numbers are taken as 16 bits. Floats are taken as [0, 1] where none is larger, else as [0, 255]. Raises
    ValueError where the largest sample fits none of these: the image would come out black, or cut.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("samples that are not finite")
    low, high = values.min(), values.max()
    if image.mode.startswith("I"):
        if low < 0 or high > 65535 or 0 < high < 4096:
            raise ValueError(f"samples from {low:g} to {high:g} are not of 16 bits: convert it to 8 bits")
        values = values / 257  # keep the upper 8
    else:
        if low < 0 or high > 255 or 1 < high < 32:
            raise ValueError(
                f"samples from {low:g} to {high:g} are neither of [0, 1] nor of [0, 255]: convert it to 8 bits"
            )
        values = values * 255 if high <= 1 else values
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def fit(image: Image.Image, size: int, channels: int) -> Tensor:
    """An image of any mode and size -> (channels, size, size) uint8: upright, centre-cropped, resized antialiased."""
    image = to_8_bits(upright(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    array = np.array(image).reshape(size, size, channels)
    return torch.from_numpy(array).permute(2, 0, 1)  # (C, H, W)


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 to float32 in [−1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float in [−1, 1], clamped, to uint8, rounded."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
