"""A set that fits in memory is decoded once, into a tensor that is cached on disk."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import torch
from torch import Tensor

from ddim.errors import InputError
from ddim.images.image_set import ImageSet
from ddim.system.files import folder, replacing
from ddim.system.machine import cache_folder
from ddim.system.messages import warn
from ddim.system.progress import progress

MEMORY = 4 * 2**30  # bytes of decoded images up to which a set is kept in memory


def load(images: ImageSet) -> Tensor | ImageSet:
    """All of a set as one (N, C, H, W) uint8 tensor, cached on disk; the set itself where that exceeds MEMORY."""
    return load_numbered(images)[0]


def load_numbered(images: ImageSet) -> tuple[Tensor | ImageSet, Tensor]:
    """The same, and the numbers (N,) in the set of what the tensor holds: not all, where broken images are skipped."""
    every = torch.arange(len(images))
    if len(images) * images.channels * images.size**2 > MEMORY:
        return images, every
    if not images.identity():
        return torch.stack([images[i] for i in range(len(images))]), every
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    version = 2 if images.skip_broken else 1  # files of version 1 do not tell which images they hold
    key = f"{images.identity()} {images.size} {images.channels} {images.skip_broken} {version}"
    path = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    try:
        held = load_file(path)
        return held["pictures"], held["numbers"] if images.skip_broken else every
    except (FileNotFoundError, SafetensorError, KeyError):  # absent, or not whole: decode (again)
        decoded, numbers = decode_all(images)
    try:
        folder(path.parent)
        with replacing(path) as part:
            save_file({"pictures": decoded} | ({"numbers": numbers} if images.skip_broken else {}), part)
    except InputError:
        pass  # a cache that cannot be written costs only the time to decode
    return decoded, numbers


def decode_all(images: ImageSet) -> tuple[Tensor, Tensor]:
    """Decode a whole set under a progress bar: (N, C, H, W) uint8, N less than its length by those skipped, and the
    numbers (N,) of the others."""
    n, channels, size = len(images), images.channels, images.size
    out, kept = torch.empty(n, channels, size, size, dtype=torch.uint8), []
    # Pillow decodes outside the interpreter's lock. What is left is not waited for after Ctrl-C.
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        closing(pool.map(images.decode, range(n))) as every,
        progress("decoding images", n, "image") as advance,
    ):
        for i, image in enumerate(every):
            if image is not None:
                out[len(kept)] = image
                kept.append(i)
            advance()
        if not kept:
            raise InputError(f"{images.name(0)}: none of the {n} images can be read")
    if len(kept) < n:
        warn(f"left out {n - len(kept)} of {n} images, which cannot be read")
    return (out[: len(kept)].clone() if len(kept) < n else out), torch.tensor(kept)
