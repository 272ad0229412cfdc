"""What a set of images holds, before training on it."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from ddim.errors import InputError
from ddim.images.labels import Labels
from ddim.images.pixels import fit, upright
from ddim.images.sources import find
from ddim.system.progress import progress as progress_bar

SHOWN = 64  # images on the sheet


@dataclass(frozen=True)
class Summary:
    """n images, read as `kind`; their sizes (as seen, EXIF turned) and modes; the names of broken ones; the kinds of
    files that were passed over, and why."""

    n: int
    kind: str
    sizes: Counter[tuple[int, int]]
    modes: Counter[str]
    broken: list[str]
    ignored: Counter[str]
    passed_over: str
    crop: tuple[int, int, int, int] | None
    labels: Labels | None  # their classes
    images: torch.Tensor  # (≤ 64, 3, size, size) uint8, spread over the set


def summarise(source: str, size: int = 64, progress: bool = False) -> Summary:
    """Read every image that `source` names (see `ddim train --data`) and say what there is. Raises InputError."""
    if size < 1:
        raise InputError(f"--size must be at least 1; got {size}")
    images = find(source, size, 3, skip_broken=True)
    sizes, modes, broken, good = Counter(), Counter(), [], []
    bar = progress_bar("reading images", len(images), "image") if progress else nullcontext(lambda: None)
    with bar as advance:
        for i in range(len(images)):
            try:
                with images.whole(i) as image:
                    fit(image, images.size, images.channels)  # what training does with it can fail too
                    sizes[upright(image).size] += 1
                    modes[image.mode] += 1
                good.append(i)
            except InputError:
                broken.append(images.name(i))
            advance()
        if not sizes:
            raise InputError(f"{source}: none of its {len(images)} images can be read")
    some = torch.linspace(0, len(good) - 1, min(SHOWN, len(good))).long().tolist()
    shown = torch.stack([images[good[k]] for k in some])
    return Summary(
        len(images),
        type(images).__name__,
        sizes,
        modes,
        broken,
        images.ignored,
        images.passed_over(),
        images.crop,
        images.labels,
        shown,
    )
