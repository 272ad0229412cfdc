"""A batch of images as people handle it: shown as one sheet, or saved as files."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from ddim.errors import InputError, check_whole, shown
from ddim.plots import sheets
from ddim.system.files import folder


def show(
    images: Tensor | Sequence[Tensor], labels: Sequence[str] = (), columns: int | None = None, scale: int | None = None
) -> Image.Image:
    """Images as one sheet, which a notebook draws, and `.save("sheet.png")` writes.

    images: (N, C, H, W) floats in [−1, 1], clamped, or uint8, in a grid of `columns`, about square by default; or a
    list of such, a row each, with `labels` before them. scale: a whole factor, by default to about 64 pixels an image.
    Raises InputError.
    """
    if isinstance(images, Tensor):
        batch = checked(images)
        check_whole("columns", columns or 1)
        columns = columns or int(max(1, round(len(batch) ** 0.5 + 0.49)))
        parts = [batch[i : i + columns] for i in range(0, len(batch), columns)]
    else:
        parts = [checked(row) for row in images] if isinstance(images, Sequence) else [checked(images)]
        if len({row.shape[1:] for row in parts}) != 1:
            raise InputError("images are a tensor (N, C, H, W), or a list of such of one size")
    check_whole("scale", scale or 1)
    if labels and len(labels) != len(parts):
        raise InputError(f"labels are one a row: {len(parts)}; got {len(labels)}")
    return sheets.rows(parts, labels, scale)


def save_images(images: Tensor, out: str | Path, first: int = 0) -> list[Path]:
    """Write each image of (N, C, H, W), floats in [−1, 1], clamped and rounded, or uint8, as a PNG file named by its
    number from `first` on, 00000.png, …, into the folder `out`. Nothing is written over: raises InputError where one of
    these files is there.
    """
    batch = checked(images)
    check_whole("first", first, 0)
    paths = [Path(out) / f"{k:05d}.png" for k in range(first, first + len(batch))]
    if there := next((path for path in paths if path.exists()), None):
        raise InputError(f"{there}: is there already; give another folder, or first={first + len(batch)}")
    folder(Path(out))
    return [sheets.save(sheets.to_pil(image), path) for image, path in zip(batch, paths, strict=True)]


def checked(images: Tensor) -> Tensor:
    """A batch that can be drawn, on the CPU. Raises InputError."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        got = tuple(images.shape) if isinstance(images, Tensor) else shown(images)
        raise InputError(f"images are a tensor (N, C, H, W) of one channel or three; got {got}")
    if not images.is_floating_point() and str(images.dtype) != "torch.uint8":
        raise InputError(f"images are floats in [−1, 1] or uint8; got {str(images.dtype).removeprefix('torch.')}")
    return images.detach().cpu()
