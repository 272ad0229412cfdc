"""Pictures in, uint8 tensors out: a set that fits in memory is decoded once into a cached tensor; a larger one is
decoded on the fly by worker processes. The order of training is decided here.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ddim.errors import InputError
from ddim.images.image_set import Pictures, fit
from ddim.images.sources import find
from ddim.system.files import folder, replacing
from ddim.system.progress import track

__all__ = ["batches", "find", "fit", "load", "order", "to_float", "to_uint8"]

MEMORY = 4 * 2**30  # bytes of decoded pictures up to which a set is kept in memory


def cache_folder() -> Path:
    """Where decoded sets are kept: $DDIM_CACHE, or `ddim` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddim"
    return Path(os.environ.get("DDIM_CACHE") or default)


def load(pictures: Pictures) -> Tensor | Pictures:
    """All of a set as one (N, C, H, W) uint8 tensor, cached on disk; the set itself where that exceeds MEMORY."""
    if len(pictures) * pictures.channels * pictures.size**2 > MEMORY:
        return pictures
    if not pictures.identity():
        return torch.stack([pictures[i] for i in range(len(pictures))])
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    key = f"{pictures.identity()} {pictures.size} {pictures.channels} {pictures.skip_broken} 1"
    path = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    try:
        return load_file(path)["pictures"]
    except (FileNotFoundError, SafetensorError, KeyError):  # absent, or not whole: decode (again)
        decoded = decode_all(pictures)
    try:
        folder(path.parent)
        with replacing(path) as part:
            save_file({"pictures": decoded}, part)
    except InputError:
        pass  # a cache that cannot be written costs only the time to decode
    return decoded


def decode_all(pictures: Pictures) -> Tensor:
    """Decode a whole set under a progress bar: (N, C, H, W) uint8, N less than its length by those skipped."""
    n, channels, size = len(pictures), pictures.channels, pictures.size
    out, kept = torch.empty(n, channels, size, size, dtype=torch.uint8), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the interpreter's lock
        for picture in track(pool.map(pictures.decode, range(n)), "decoding pictures", n, "picture"):
            if picture is not None:
                out[kept] = picture
                kept += 1
    if not kept:
        raise InputError(f"{pictures.name(0)}: none of the {n} pictures can be read")
    if kept < n:
        print(f"left out {n - kept} of {n} pictures, which cannot be read", file=sys.stderr)
    return out[:kept].clone() if kept < n else out


def order(n: int, batch_size: int, seed: int, first: int = 0) -> Iterator[list[int]]:
    """Batches of indices, endless, from batch `first` on: one shuffle of range(n) after another, end to end."""
    epoch, offset = divmod(first * batch_size, n)
    queue: list[int] = []
    while True:
        while len(queue) < batch_size:
            queue += np.random.default_rng([seed, epoch]).permutation(n)[offset:].tolist()
            epoch, offset = epoch + 1, 0
        yield queue[:batch_size]
        queue = queue[batch_size:]


def batches(pictures: Tensor | Pictures, index: Iterator[Sequence[int]], workers: int = 0) -> Iterator[Tensor]:
    """(B, C, H, W) uint8 for each batch of indices: by indexing a tensor, or decoded ahead by `workers` processes."""
    if isinstance(pictures, Tensor):
        return (pictures[i] for i in index)
    return iter(DataLoader(pictures, batch_sampler=index, num_workers=workers, collate_fn=torch.stack))


def to_float(pictures: Tensor) -> Tensor:
    """uint8 0..255 to float32 in [−1, 1]."""
    return pictures.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float in [−1, 1], clamped, to uint8, rounded."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
