"""Latents on disk: one safetensors file that knows the model, the grid, the solver and the images it was made from."""

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path

from torch import Tensor

from ddim.diffusion.latents import Latents
from ddim.diffusion.schedule import check_time
from ddim.errors import InputError
from ddim.system.files import clean_abandoned, folder, replacing


@contextmanager
def writing(path: Path, tensors: Sequence[str], shape: Sequence[int], about: dict) -> Iterator[Callable[..., None]]:
    """Yields `append(*batches)`, one float32 batch (B, C, H, W) a tensor, until all have `shape` (N, C, H, W).

    The batches go to disk as they come, so that N is bounded by the disk alone. Whole or not at all.
    """
    size, written = 4 * prod(shape), 0
    header: dict = {"__metadata__": {"ddim": json.dumps(about)}}
    for k, name in enumerate(tensors):
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [k * size, (k + 1) * size]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder(path.parent)
    clean_abandoned(path)
    with replacing(path) as part, open(part, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)

        def append(*batches: Tensor) -> None:
            nonlocal written
            data = [batch.float().cpu().contiguous().numpy().tobytes() for batch in batches]
            for k, piece in enumerate(data):
                file.seek(8 + len(text) + k * size + written)
                file.write(piece)
            written += len(data[0])

        yield append
        if written != size:
            raise RuntimeError(f"{path}: {written} of {size} bytes written")


class LatentFile:
    """A file of latents, read in batches. about: model, solver, times, names, as they were written."""

    def __init__(self, path: Path):
        from safetensors import SafetensorError, safe_open

        self.path = path
        if not path.is_file():
            raise InputError(f"{path}: no such file; name latents made by ddim encode")
        try:
            self.file = safe_open(path, "pt")
            self.about = json.loads((self.file.metadata() or {})["ddim"])
            self.tensors = sorted(set(self.file.keys()) & {"z", "before"}, reverse=True)  # z first
            self.shape = tuple(self.file.get_slice("z").get_shape())  # (N, C, H, W)
            self.times, self.model = [check_time(10**9, t) for t in self.about["times"]], str(self.about["model"])
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError):
            raise InputError(f"{path}: not latents made by ddim encode, or truncated") from None

    def digest(self) -> str:
        """Sixteen hex digits that name what the file holds, so that a job does not continue with another."""
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def pairs(self) -> bool:
        """Whether each latent is a pair, as solver `exact` makes them."""
        return len(self.tensors) == 2

    def batch(self, indices: range, device) -> Latents:
        """The latents of the images `indices`, (B, C, H, W) float32, or the pair of x at the first two times."""
        parts = tuple(self.file.get_slice(name)[indices.start : indices.stop].to(device) for name in self.tensors)
        return parts if self.pairs else parts[0]
