"""A set that fits in memory is decoded once, into a tensor that is cached on disk."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

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
    if len(images) * images.channels * images.size**2 > MEMORY:
        return images
    if not images.identity():
        return torch.stack([images[i] for i in range(len(images))])
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    key = f"{images.identity()} {images.size} {images.channels} {images.skip_broken} 1"
    path = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    try:
        return load_file(path)["pictures"]
    except (FileNotFoundError, SafetensorError, KeyError):  # absent, or not whole: decode (again)
        decoded = decode_all(images)
    try:
        folder(path.parent)
        with replacing(path) as part:
            save_file({"pictures": decoded}, part)
    except InputError:
        pass  # a cache that cannot be written costs only the time to decode
    return decoded


def decode_all(images: ImageSet) -> Tensor:
    """Decode a whole set under a progress bar: (N, C, H, W) uint8, N less than its length by those skipped."""
    n, channels, size = len(images), images.channels, images.size
    out, kept = torch.empty(n, channels, size, size, dtype=torch.uint8), 0
    # Pillow decodes outside the interpreter's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("decoding pictures", n, "image") as advance:
        for image in pool.map(images.decode, range(n)):
            if image is not None:
                out[kept] = image
                kept += 1
            advance()
        if not kept:
            raise InputError(f"{images.name(0)}: none of the {n} images can be read")
    if kept < n:
        warn(f"left out {n - kept} of {n} images, which cannot be read")
    return out[:kept].clone() if kept < n else out
