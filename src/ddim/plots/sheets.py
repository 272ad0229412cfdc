"""Sheets of images: grids and labelled rows; image files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ddim.errors import InputError
from ddim.images.pixels import to_uint8
from ddim.system.files import replacing


def to_pil(image: Tensor) -> Image.Image:
    """(C, H, W) float in [−1, 1], clamped and rounded, or uint8 -> a greyscale or RGB image."""
    image = image if image.dtype.is_floating_point is False else to_uint8(image)
    array = image.permute(1, 2, 0).cpu().numpy()  # (H, W, C)
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


# Formats that Pillow registers and hands to another program, or that are documents.
NOT_WRITTEN = {".bufr", ".grib", ".h5", ".hdf", ".pdf", ".ps", ".eps", ".emf", ".wmf"}


def check_suffix(path: Path) -> Path:
    """`path`, or an InputError where its suffix is that of no image file that can be written."""
    Image.init()
    if Image.EXTENSION.get(path.suffix.lower()) not in Image.SAVE or path.suffix.lower() in NOT_WRITTEN:
        raise InputError(f"{path}: {path.suffix or 'no suffix'} is no format of images; name a .png file")
    return path


def save(image: Image.Image, path: str | Path) -> Path:
    """Write an image file, whole or not at all, in the format of its suffix. Raises InputError."""
    path = check_suffix(Path(path))
    with replacing(path) as part:
        image.save(part)
    return path


def read(path: Path) -> Tensor:
    """An image file as it is -> (C, H, W) uint8."""
    with Image.open(path) as image:
        array = np.array(image)
    return torch.from_numpy(array[:, :, None] if array.ndim == 2 else array).permute(2, 0, 1)


def enlargement(size: int, cell: int = 64) -> int:
    """The whole factor that brings a small image to about `cell` pixels; 1 for a large one."""
    return max(1, round(cell / size))


def font_of(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's font, which has the letters of most alphabets; Pillow's own has those of English alone."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def rows(
    images: Sequence[Tensor], labels: Sequence[str] = (), scale: int | None = None, heads: Sequence[str] = ()
) -> Image.Image:
    """Rows of images, each (N, C, H, W), with gaps between them, a label before each row and a head over each column.

    Images are enlarged by `scale` without smoothing, by default to about 64 pixels.
    """
    height, width = images[0].shape[-2:]
    scale = scale or enlargement(max(height, width))
    cell_h, cell_w = height * scale, width * scale
    gap = max(2, min(cell_h, cell_w) // 16)
    font = font_of(max(12, cell_h // 5))
    margin = max((int(font.getlength(label)) for label in labels), default=0) + (4 * gap if labels else gap)
    columns = max(map(len, images))
    first = gap + (2 * int(font.size) if heads else 0)
    sheet = Image.new("RGB", (margin + columns * (cell_w + gap), first + len(images) * (cell_h + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for j, head in enumerate(heads):
        draw.text((margin + j * (cell_w + gap) + cell_w / 2, first / 2), head, fill="black", font=font, anchor="mm")
    for i, row in enumerate(images):
        top = first + i * (cell_h + gap)
        if labels:
            draw.text((2 * gap, top + cell_h / 2), labels[i], fill="black", font=font, anchor="lm")
        for j, image in enumerate(row):
            cell = to_pil(image).resize((cell_w, cell_h), Image.Resampling.NEAREST)
            sheet.paste(cell, (margin + j * (cell_w + gap), top))
    return sheet


def by_class(images: Tensor, labels: Tensor, classes: Sequence[str]) -> Image.Image:
    """(N, C, H, W), of the classes `labels` (N,), as one sheet: a row a class, with its name before it."""
    shown = labels.unique().tolist()
    return rows([images[labels == label] for label in shown], [classes[label] for label in shown])


def grid(images: Tensor, columns: int | None = None) -> Image.Image:
    """(N, C, H, W) as one sheet, about square."""
    columns = columns or int(np.ceil(len(images) ** 0.5))
    return rows([images[i : i + columns] for i in range(0, len(images), columns)])
