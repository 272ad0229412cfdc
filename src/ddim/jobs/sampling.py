"""Sampling as a job: any number of pictures, shared out over processes, written as it goes, gone on with after a kill.

A batch is the unit of work. One process makes it whole and its pictures depend on nothing but their numbers, so the
files are the same however many processes there are and however often they were killed.
"""

import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddim.checkpoints import folders as checkpoint
from ddim.diffusion.model import Model
from ddim.diffusion.sampling import chunks, default_batch_size, generate
from ddim.errors import InputError
from ddim.images.batches import to_uint8
from ddim.plots import sheets as plot
from ddim.system.files import appending, folder, replacing


class Alone:
    """The one process of a job that no launcher started."""

    process_index, num_processes, is_main_process = 0, 1, True

    def __init__(self, device: str | None):
        self.device = device

    def wait_for_everyone(self) -> None:
        pass


def processes(device: str | None = None):
    """The processes that `torchrun` or `accelerate launch` started, on a GPU each where there are any; or one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Alone(device)
    from accelerate import PartialState

    cpu = device == "cpu" or not torch.cuda.is_available()
    # A slow machine may be waited for as long as it takes.
    return PartialState(cpu=cpu, timeout=timedelta(days=30))


@dataclass(frozen=True)
class Pngs:
    """A file a picture, named by its number."""

    out: Path

    def file(self, k: int) -> Path:
        return self.out / f"{k:05d}.png"

    def has(self, images: range) -> bool:
        return all(self.file(k).exists() for k in images)

    def write(self, images: range, pictures: Tensor) -> None:
        for k, picture in zip(images, pictures, strict=True):
            plot.save(plot.picture(picture), self.file(k))

    def read(self, images: range) -> Tensor:
        return torch.stack([plot.read(self.file(k)) for k in images])


@dataclass(frozen=True)
class Shards:
    """A file a batch: (N, H, W, C) uint8 as .npy, named by the numbers of its first picture and of the one after it."""

    out: Path

    def file(self, images: range) -> Path:
        return self.out / f"{images.start:07d}-{images.stop:07d}.npy"

    def has(self, images: range) -> bool:
        return self.file(images).exists()

    def write(self, images: range, pictures: Tensor) -> None:
        with replacing(self.file(images)) as part:
            np.save(part, pictures.permute(0, 2, 3, 1).contiguous().numpy())

    def read(self, images: range) -> Tensor:
        return torch.from_numpy(np.load(self.file(images))).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Job:
    """Pictures 0 … n−1 of one way of sampling, and where they are kept."""

    store: Pngs | Shards
    n: int
    batch_size: int
    times: Sequence[int]
    eta: float | str
    seed: int
    clip: bool

    def batches(self) -> list[range]:
        return list(chunks(self.n, self.batch_size))

    def share(self, workers) -> list[range]:
        """The batches that this process is to make: every so many-th of those missing.

        Everyone must have listed what is missing before anyone adds to it: wait before `work`.
        """
        missing = [images for images in self.batches() if not self.store.has(images)]
        return missing[workers.process_index :: workers.num_processes]

    @torch.no_grad()
    def work(self, model: Model, share: list[range], advance: Callable[[int], None]) -> Iterator[tuple[range, float]]:
        """Make and write batches; yields each with its seconds. `advance` is told the pictures of each step."""
        for images in share:
            start = time.perf_counter()
            for x, _ in generate(model, images, self.times, self.eta, self.seed, clip=self.clip):  # noqa: B007
                advance(len(images))
            pictures = to_uint8(x).cpu()
            seconds = time.perf_counter() - start
            self.store.write(images, pictures)
            yield images, seconds

    def pictures(self, n: int | None = None) -> Tensor:
        """The first n pictures, or all: (n, C, H, W) uint8."""
        n = self.n if n is None else min(n, self.n)
        return torch.cat([self.store.read(images) for images in self.batches() if images.start < n])[:n]


def begin(path: Path, settings: dict, batch_size: int | None, model: Model, workers) -> int:
    """Open a folder for the pictures of `settings`, or go on with one: `path` is the file that tells them.

    Returns the batch size: as given, as the folder was begun with, or what fits; all processes get the same. Raises
    InputError where the folder holds files made with other settings.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch size must be at least 1; got {batch_size}")
    if not path.exists() and path.parent.is_dir() and any(path.parent.iterdir()):
        raise InputError(f"{path.parent}: holds other files; name an empty or a new folder by --out")
    workers.wait_for_everyone()
    folder(path.parent)
    if workers.is_main_process:
        before = checkpoint.read_json(path).get("batch_size") if path.exists() else None
        size = batch_size or before or default_batch_size(model)
        checkpoint.claim(path, {**settings, "batch_size": size})
        for part in path.parent.rglob(".*.part*"):  # what a kill left half-written
            part.unlink()
    workers.wait_for_everyone()
    return checkpoint.read_json(path)["batch_size"]


def pack(job: Job, path: Path) -> None:
    """All shards as one .npz with arr_0, (n, H, W, C) uint8, as other tools read it; a shard at a time in memory."""
    first = job.store.read(job.batches()[0])
    header = {"descr": "|u1", "fortran_order": False, "shape": (job.n, *first.shape[2:], first.shape[1])}
    with (
        replacing(path) as part,
        zipfile.ZipFile(part, "w") as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for images in job.batches():
            file.write(job.store.read(images).permute(0, 2, 3, 1).contiguous().numpy())


def note(path: Path, images: range, seconds: float) -> None:
    """Add a line to a log of batches."""
    with appending(path) as file:
        file.write(json.dumps({"images": [images.start, images.stop], "seconds": round(seconds, 4)}) + "\n")


def seconds_an_image(logs: Sequence[Path]) -> float | None:
    """The mean over the logged batches; lines that a kill cut short are left out."""
    total, count = 0.0, 0
    for line in "".join(log.read_text() for log in logs).splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        total, count = total + entry["seconds"], count + entry["images"][1] - entry["images"][0]
    return total / count if count else None
