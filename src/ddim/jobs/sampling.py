"""Sampling as a job: any number of images, shared out over processes, written as it goes, continued after a kill.

A batch is the unit of work. One process makes it whole and its images depend on nothing but their indices, so the files
are the same however many processes there are and however often they were killed.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ddim.diffusion.clipping import Clip, clipping
from ddim.diffusion.course import sampling_course
from ddim.diffusion.guidance import ALL, Guidance, Label, kept, labels_of, plain
from ddim.diffusion.model import Model, levels
from ddim.diffusion.noise import check_seed
from ddim.diffusion.sampling import chunks, generate
from ddim.diffusion.schedule import Time
from ddim.diffusion.solvers import Solver, check_eta, check_variance, clip_with, noise_of, with_noise
from ddim.diffusion.walk import Moment
from ddim.errors import InputError, check_whole, choose, shown
from ddim.images.pixels import to_uint8
from ddim.jobs.adaptive_steps import keep, summary
from ddim.jobs.bars import Progress, bar
from ddim.jobs.continuing import continuing
from ddim.jobs.cost import batch_size_for, calls_of, foretell
from ddim.jobs.image_files import Pngs, Shards, clean_of, pack
from ddim.plots import sheets
from ddim.system.files import check_own, clean, folder, held, writable
from ddim.system.json import claim, read_json
from ddim.system.messages import warn
from ddim.system.processes import processes

# What a folder from before these settings existed was made with.
BEFORE = {"solver": "ddim", "variance": "small", "label": None, "guidance": 1.0, "jump": 1}
EVALUATIONS = "evaluations.jsonl"  # of an adaptive solver
SHEET = 64  # images on the sheet of the first ones


@dataclass(frozen=True)
class Job:
    """Images 0 … n−1 of one way of sampling, and where they are kept."""

    files: Pngs | Shards
    n: int
    batch_size: int
    times: Sequence[Time]
    eta: float | str = 0.0
    seed: int = 0
    clip: Clip | bool | None = None
    solver: str | Solver = "ddim"
    variance: str = "small"
    label: Label | None = None
    guidance: float | Guidance = 1.0

    def batches(self) -> list[range]:
        return list(chunks(self.n, self.batch_size))

    def share(self, model: Model, workers) -> list[range]:
        """See `share_of`."""
        return share_of(self.files, self.batches(), model.shape, workers)

    def walk(self, model: Model, indices: range) -> Iterator[Moment]:
        """The walk of one batch; `write` takes the x that it ends at."""
        label = None if self.label is None else labels_of(model, self.label, self.n)[indices.start : indices.stop]
        how = (self.clip, self.solver, self.variance)
        return generate(model, indices, self.times, self.eta, self.seed, None, *how, None, label, self.guidance)

    def write(self, indices: range, x: Tensor) -> None:
        """x: (N, C, H, W) in [−1, 1], clamped and rounded to 8 bits."""
        self.files.write(indices, to_uint8(x).cpu())

    def images(self, n: int | None = None) -> Tensor:
        """The first n images, or all: (n, C, H, W) uint8."""
        n = self.n if n is None else min(n, self.n)
        return torch.cat([self.files.read(indices) for indices in self.batches() if indices.start < n])[:n]


def share_of(files: Pngs | Shards, batches: Sequence[range], shape: Sequence[int], workers) -> list[range]:
    """The batches that this process is to make: every so many-th of those that are missing or damaged.

    Everyone must have listed what is missing before anyone adds to it: wait before the work.
    """
    missing = [indices for indices in batches if not files.has(indices, shape)]
    return missing[workers.process_index :: workers.num_processes]


@dataclass(frozen=True)
class Sampled:
    """What `sample_files` wrote."""

    images: Path  # the folder of PNG files, or the .npz file
    sheet: Path  # the first images as one image
    shown: int  # how many of them
    adaptive: str | None = None  # what an adaptive solver took


@torch.no_grad()
def sample_files(
    model: Model,
    out: str | Path,
    n: int = 64,
    steps: int | None = None,
    eta: float | str | None = None,
    spacing: str | None = None,
    seed: int = 0,
    clip: Clip | bool | None = None,
    format: Literal["png", "npz"] = "png",
    batch_size: int | None = None,
    times: Sequence[Time] | None = None,
    solver: str | Solver | None = None,
    variance: str = "small",
    progress: Progress = False,
    workers=None,
    label: Label | None = None,
    guidance: float | Guidance = 1.0,
) -> Sampled | None:
    """n images into the folder `out`: one PNG file each, or one images.npz (arr_0: uint8, n×H×W×C). The sheet of the
    first 64 lies beside the folder. Called again with the same settings, it continues where it was stopped. The rest as
    for `ddim.sample`. workers: the processes that share the work, by default those of the launcher. Returns None in the
    processes that help. Raises InputError.
    """
    check_named(model, out), check_whole("n", n), check_seed(seed), choose("format", format, {"png": 1, "npz": 1})
    out, workers = Path(out), workers or processes(str(model.device))
    path, how, spacing, steps, eta = sampling_course(model, steps, spacing, times, solver, eta, variance)
    clip, npz = clip_with(how, clip), format == "npz"
    check_eta(model.abar, path, eta, variance), check_variance(model, variance)
    with_noise(how, eta, variance, iter(()))
    label, beside = plain(model, label, n, guidance), sheet_beside(out)
    eta, variance = noise_of(eta, variance)
    settings = {
        **model.identity,
        **{"format": format, "seed": seed, "steps": steps, "spacing": spacing},
        **{"times": path if spacing is None or path[-1] else None, "label": label, "guidance": kept(guidance)},
        **{"eta": eta, "clip": said(model, clip), "solver": how.name, "variance": variance},
    }
    if path[-1] > model.facts.last_time and workers.is_main_process:
        warn(f"the times end at {path[-1]}, not at 0: the images will still be noisy")
    with opened(out / "sample.json", settings, batch_size, model, workers, n, calls_of(how, path)) as size:
        files = Shards(folder(out / "shards")) if npz else Pngs(out)
        job = Job(files, n, size, path, eta, seed, clip, how, variance, label, guidance)
        share = job.share(model, workers)
        workers.wait_for_everyone()
        total = sum(map(len, share)) * (len(path) - 1)
        if workers.is_main_process:
            foretell(model, size, len(share) * calls_of(how, path))
        with continuing(out), bar("sampling", total, workers.is_main_process and progress) as advance:
            for indices in share:
                for moment in job.walk(model, indices):
                    advance(len(indices))
                keep(out / EVALUATIONS, indices, moment.state)  # first: what has images has its line
                job.write(indices, moment.x)
            workers.wait_for_everyone()
        if not workers.is_main_process:
            return None
        images = pack(files, job.batches(), out / "images.npz") if npz else out
        sheet, took = draw_sheet(job, model, beside), summary(out / EVALUATIONS, n)
        return Sampled(images, beside, sheet, took)


def check_named(model: Model, out: str | Path) -> None:
    """Raise InputError unless a model has what its files are known by, and there is a folder for them."""
    levels(model)
    if not isinstance(model, Model):
        raise InputError(
            f"a job needs a ddim.Model, whose fingerprint names what it made; got {shown(model)}: wrap the network in "
            "ddim.Model(network, abar, shape), or use ddim.sample"
        )
    if not isinstance(out, str | Path):
        raise InputError(f"out is the name of a folder; got {shown(out)}")


def sheet_beside(out: Path) -> Path:
    """Where the sheet of the first images lies: beside their folder, which holds nothing else that is an image.

    Raises InputError where nothing can be written there.
    """
    named = out if out.name not in ("", "..") else Path(os.path.abspath(out))  # "." and ".." have a name too
    if not named.name:
        raise InputError(f"{named}: has no folder beside it for the sheet; name another folder")
    writable(named.parent)
    return named.with_name(f"{named.name}-sheet.png")


def draw_sheet(job: Job, model: Model, path: Path) -> int:
    """Draw the first images as one, all classes in rows; returns how many. For the process that holds the folder."""
    first, K = min(job.n, SHEET), len(model.classes)
    clean_of(path.parent, re.escape(path.name))
    if rows := job.label == ALL and first >= K:
        first -= first % K
    images = job.images(first)
    sheet = sheets.by_class(images, labels_of(model, ALL, first), model.classes) if rows else sheets.grid(images)
    sheets.save(sheet, path)
    low, high = images.flatten(1).aminmax(dim=1)
    if len(blank := (low == high).nonzero().flatten().tolist()):
        warn(f"image {blank[0]} is one colour all over: the weights are damaged, or the steps too few for them")
    if isinstance(job.files, Pngs) and (more := job.files.beyond(job.n)):
        warn(f"{job.files.out}: holds {more} images more than {job.n}, made before with the same settings")
    return first


def said(model: Model, clip: Clip | bool | None) -> bool | list:
    """What a word on clipping comes to with this model, as a settings file keeps it: it does not depend on what the
    default is.
    """
    clip = clipping(model, clip).clip
    if not isinstance(clip, Clip) or clip == Clip():
        return bool(clip)
    return [clip.range, clip.keep_eps] + ([clip.below] if clip.below != 1 else [])


@contextmanager
def opened(
    path: Path, settings: dict[str, Any], batch_size: int | None, model: Model, workers, n: int, calls: int
) -> Iterator[int]:
    """Hold a folder for n images of `settings`, new or begun before: `path` is the file in it that keeps them.

    calls: of the network, in a batch's walk. Yields the batch size: as given, as the folder was begun with, or what
    `batch_size_for` finds; all processes get the same. Raises InputError where the folder holds other files, files made
    with other settings, or another process at work.
    """
    if batch_size is not None:
        check_whole("batch size", batch_size)
    check_own(path)
    workers.wait_for_everyone()
    with held(path.parent) if workers.is_main_process else nullcontext():
        if workers.is_main_process:
            before = read_json(path) if path.exists() else {}
            size = batch_size or before.get("batch_size") or batch_size_for(model, n, calls)
            if before.get("eta") == "hat" and settings.get("variance") == "large":
                settings = {**settings, "eta": "hat", "variance": "small"}  # the same, by its name of before
            claim(path, {**settings, "batch_size": size}, BEFORE)
            clean(path.parent)
            if before and "solver" not in before:
                (path.parent / "grid.png").unlink(missing_ok=True)  # was among the images; the sheet takes its place
        workers.wait_for_everyone()
        yield read_json(path)["batch_size"]
