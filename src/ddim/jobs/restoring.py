"""Restoring many images as a job: `ddim inpaint` and `ddim restore`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ddim.diffusion.clipping import Clip
from ddim.diffusion.conditioning import blocks
from ddim.diffusion.guidance import Guidance, Label, kept, labels_of, plain
from ddim.diffusion.model import Model
from ddim.diffusion.noise import check_seed, normal
from ddim.diffusion.operators import TASKS, Colouring, Inpainting, Operator, SuperResolution, operator_of
from ddim.diffusion.restoration import APART, check_scale, checked, finished, restoring
from ddim.diffusion.schedule import Time
from ddim.diffusion.solvers import Solver, noise_of
from ddim.errors import InputError, choose
from ddim.images.selection import Selection
from ddim.jobs.editing import Edited, Work, digest, edit, read_mask
from ddim.jobs.sampling import check_named, said


@dataclass(frozen=True)
class Restored:
    """What `restore_files` wrote, and, where the images had been degraded for it, how near it came to them."""

    job: Edited
    psnr: float | None = None  # of one answer, mean over images and answers, dB on 8 bits
    psnr_of_mean: float | None = None  # of the mean of an image's answers
    diversity: float | None = None  # the root mean square difference of two answers, on [−1, 1]
    known: float | None = None  # the largest difference of what is known, on [−1, 1]


@torch.no_grad()
def restore_files(
    model: Model,
    images: Sequence[str],
    out: str | Path,
    task: str = "inpaint",
    mask: str | Path | Tensor | None = None,
    factor: int = 2,
    sigma: float = 1.0,
    degrade: bool = False,
    method: str = "projection",
    answers: int = 1,
    steps: int = 100,
    spacing: str = "linear",
    times: Sequence[Time] | None = None,
    solver: str | Solver = "ddim",
    eta: float | str = 1.0,
    seed: int = 0,
    noise: float = 0.0,
    resample: int = 1,
    scale: float = 1.0,
    clip: Clip | bool | None = None,
    batch_size: int | None = None,
    skip_broken: bool = False,
    n: int | None = None,
    progress: bool = False,
    workers=None,
    label: Label | None = None,
    guidance: float | Guidance = 1.0,
    jump: int = 1,
) -> Restored | None:
    """Restore images (files, folders, .parquet files, Hub ids) into the folder `out`, a PNG file an answer; the sheet
    of the first ones lies beside it. Called again with the same settings, it continues where it was stopped.

    task: "inpaint", with a `mask` (a file, or as for `ddim.inpaint`); "super-resolve" by `factor`; "colour"; "deblur" a
    Gaussian of `sigma` pixels.  degrade: the images are whole; first make of them what the task knows, with noise, and
    measure how near the answers come. Without it they are what is known: small, grey or blurred already.  n: take the
    first n only. The rest as for `ddim.restore`. Returns None in the processes that help. Raises InputError.
    """
    check_named(model, out), check_seed(seed), check_scale(scale), choose("task", task, TASKS)
    operator = operator_of(task, chosen_mask(mask, model) if task == Inpainting.name else None, factor, sigma)
    known = operator.shape(model.shape)
    shape = model.shape if degrade or isinstance(operator, Inpainting) else known
    chosen = Selection(images, shape, skip_broken).outside(out).first(n)
    given = Given(chosen, operator, degrade, noise, seed)
    way = (method, answers, steps, spacing, times, solver, eta, noise, resample, jump)
    path, how = checked(model, given.batch([0]), operator, *way)
    settled = {"method": method, "solver": how, "eta": noise_of(eta)[0], "seed": seed, "noise": noise}
    settled |= {"resample": resample, "jump": jump, "scale": scale, "clip": clip, "guidance": guidance}
    label = plain(model, label, len(chosen), guidance)
    settings = {
        **model.identity,
        **{"images": digest(chosen), "task": task, "degrade": degrade, "answers": answers, "times": path},
        **{"known": digest(operator.mask) if task == Inpainting.name else [factor, sigma], "label": label, **settled},
        **{"solver": how.name, "clip": said(model, clip), "guidance": kept(guidance)},
    }
    work = work_of(model, given, path, answers, label, settled)
    heads = ["image", "known"] if degrade else ["known"]
    doing = "inpainting" if task == Inpainting.name else "restoring"
    done = edit(model, work, out, settings, given.columns, heads, "restore", doing, batch_size, progress, workers)
    return done and Restored(done, *(compared(done, given) if degrade else ()))


def work_of(model: Model, given: "Given", path: list[Time], answers: int, label: Label | None, settled: dict) -> Work:
    """The work of a job. settled: what `restoring` is called with besides."""
    n = len(given.images)
    labels = None if label is None else labels_of(model, label, n)

    def walk(rows: list[int], which: list[int], way: int):
        streams = [row + APART * k for row, k in zip(rows, which, strict=True)]
        of = None if labels is None else labels[rows]
        return restoring(model, given.batch(rows), given.operator, path, streams, label=of, **settled)

    def finish(x: Tensor, rows: list[int]) -> Tensor:
        return finished(x.cpu(), given.batch(rows), given.operator, given.noise)

    shown, calls = blocks(path, settled["jump"]), settled["resample"] * settled["jump"]
    return Work(n, answers, 1, len(shown) - 1, calls, walk, finish)


def chosen_mask(mask: str | Path | Tensor | None, model: Model) -> Tensor:
    """A mask, read where it is named."""
    if mask is None:
        raise InputError("inpainting needs a mask: name an image file, white where the image is made anew")
    return read_mask(mask, model.shape) if isinstance(mask, str | Path) else mask


@dataclass(frozen=True)
class Given:
    """What is known of numbered images."""

    images: Selection
    operator: Operator
    degrade: bool
    noise: float
    seed: int

    def batch(self, rows: Sequence[int]) -> Tensor:
        """y of images `rows`, (len(rows), …)."""
        y = self.images.batch(rows)
        if self.degrade and not isinstance(self.operator, Inpainting):
            y = self.operator(y)
        if self.degrade and self.noise:  # of a stream that no answer has
            y = y + self.noise * normal(self.seed, rows, y.shape[1:], draw=3 * APART)
        return y

    def columns(self, i: int) -> list[Tensor]:
        """Of image i, what stands on a sheet before its answers, each (C, H, W)."""
        y = self.batch([i])
        shown = shown_of(self.operator, y)[0]
        return [self.images.batch([i])[0], shown] if self.degrade else [shown]


def shown_of(operator: Operator, y: Tensor) -> Tensor:
    """y as images of the model's shape, to look at: what is unknown is grey."""
    if isinstance(operator, SuperResolution):
        return F.interpolate(y, scale_factor=operator.factor, mode="nearest")
    if isinstance(operator, Colouring):
        return y.expand(-1, 3, -1, -1)
    return operator(y) if isinstance(operator, Inpainting) else y


def compared(done: Edited, given: Given) -> tuple[float, ...]:
    """PSNR of the answers and of their mean, how far two answers lie apart, and the largest error of what is known."""
    found, sums = done.results(), torch.zeros(3, dtype=torch.float64)
    largest, A = 0.0, given.operator
    for i in range(done.n):
        x, y, few = given.images.batch([i]), given.batch([i]), found[i]  # (1, …), (1, …), (answers, C, H, W)
        apart = (few[1:] - few[:1]).square().mean().sqrt() if done.answers > 1 else torch.zeros(())
        sums += torch.stack([psnr(few, x).mean(), psnr(few.mean(0, keepdim=True), x)[0], apart]).double()
        known = A(y) if isinstance(A, Inpainting) else y
        largest = max(largest, (A(few) - known).abs().max().item())
    return (*(sums / done.n).tolist(), largest)


def psnr(x: Tensor, real: Tensor) -> Tensor:
    """The peak signal-to-noise ratio of images (N, C, H, W) in [−1, 1], dB: 10 log₁₀ 4/MSE, at most 100. (N,)."""
    return (10 * (4 / (x - real).square().mean((1, 2, 3)).clamp(min=4e-10)).log10()).clamp(max=100)
