"""Varying many images, or giving them another class, as a job: `ddim vary`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ddim.diffusion.clipping import Clip
from ddim.diffusion.guidance import Guidance, Label, guided, kept, labels_of, plain
from ddim.diffusion.latents import decoding, encoding, latents_of
from ddim.diffusion.model import Model
from ddim.diffusion.noise import check_seed
from ddim.diffusion.restoration import APART
from ddim.diffusion.solvers import Solver, noise_of
from ddim.diffusion.varying import inverse, relabel_course, varying, varying_course
from ddim.diffusion.walk import last
from ddim.errors import InputError, check_whole, listed
from ddim.images.selection import Selection
from ddim.jobs.editing import Edited, Work, digest, edit
from ddim.jobs.sampling import check_named, said


@dataclass(frozen=True)
class Varied:
    """What `vary_files` wrote, and how far it went: the root mean square difference of a pixel from the image, on
    [−1, 1], by strength.
    """

    job: Edited
    changes: dict[float, float]


@torch.no_grad()
def vary_files(
    model: Model,
    images: Sequence[str],
    out: str | Path,
    strength: float | Sequence[float] = 0.5,
    answers: int = 1,
    steps: int | None = None,
    spacing: str | None = None,
    solver: str | Solver | None = None,
    eta: float | str = 0.0,
    seed: int = 0,
    clip: Clip | bool | None = None,
    batch_size: int | None = None,
    skip_broken: bool = False,
    n: int | None = None,
    progress: bool = False,
    workers=None,
    label: Label | None = None,
    guidance: float | Guidance = 1.0,
    source: Label | None = None,
) -> Varied | None:
    """Images like images (files, folders, .parquet files, Hub ids), a PNG file each, into the folder `out`; the sheet
    of the first ones, a column a strength, lies beside it. Called again with the same settings, it continues.

    strength: one or several; see `ddim.vary`.  source: the class that the images are of: then no noise is added, but
    they are encoded with it and decoded with `label`; see `ddim.relabel`.  n: take the first n only. The rest as
    for `ddim.vary`. Returns None in the processes that help. Raises InputError.
    """
    check_named(model, out), check_seed(seed), check_whole("answers", answers)
    strengths = [strength] if isinstance(strength, int | float) else listed("strength", strength)
    if source is not None and label is None:
        raise InputError("source is the class that the images are of: give the label that they are to be of too")
    if source is not None and (answers > 1 or noise_of(eta) != noise_of(0.0)):
        raise InputError("encoding and decoding has no noise, so one answer: leave out answers and eta")
    if source is None:
        ways = [varying_course(model, s, steps, spacing, solver, eta) for s in strengths]
    else:
        ways = [relabel_course(model, s, steps or 50, spacing or "linear", solver or "ddim") for s in strengths]
    if not ways or any(len(path) < 2 for path, _ in ways):
        raise InputError("strength needs a value above 0, which is the image itself")
    chosen = Selection(images, model.shape, skip_broken).outside(out).first(n)
    label, source = plain(model, label, len(chosen), guidance), plain(model, source, len(chosen))
    settled = {"eta": noise_of(eta)[0], "seed": seed, "clip": clip, "guidance": guidance}
    settings = {
        **model.identity,
        **{"images": digest(chosen)},
        **{"strength": strengths, "answers": answers, "times": [path for path, _ in ways], "solver": ways[0][1].name},
        **{"label": label, "source": source, **settled, "clip": said(model, clip), "guidance": kept(guidance)},
    }
    work = work_of(model, chosen, ways, answers, label, source, settled)
    heads = ["image", *(f"{s:g}" for s in strengths for _ in range(work.shown))]
    columns = lambda i: [chosen.batch([i])[0]]  # noqa: E731
    done = edit(model, work, out, settings, columns, heads, "vary", "varying", batch_size, progress, workers)
    return done and Varied(done, changes_of(done, chosen, strengths))


def work_of(model: Model, chosen: Selection, ways: list, answers: int, label, source, settled: dict) -> Work:
    """The work of a job. settled: what `varying` is called with besides."""
    after, before = (None if c is None else labels_of(model, c, len(chosen)) for c in (label, source))

    def walk(rows: list[int], which: list[int], way: int):
        x, (path, how), target = chosen.batch(rows), ways[way], None if after is None else after[rows]
        if before is None:
            streams = [row + APART * k for row, k in zip(rows, which, strict=True)]
            return varying(model, x, path, streams, how, label=target, **settled)
        x = x.to(model.device)
        z = latents_of(last(encoding(guided(model, before[rows]), x, path, how)), x)
        return decoding(guided(model, target, settled["guidance"]), z, path, inverse(how))

    longest = max(len(path) - 1 for path, _ in ways)
    return Work(len(chosen), answers, len(ways), longest, 1, walk, lambda x, rows: x.clamp(-1, 1))


def changes_of(done: Edited, images: Selection, strengths: Sequence[float]) -> dict[float, float]:
    """By strength, the root mean square difference of a pixel from its image."""
    found = {}
    for way, strength in enumerate(strengths):
        made = done.results(way)
        squares = [(made[i] - images.batch([i])).square().mean() for i in range(done.n)]
        found[strength] = torch.stack(squares).mean().sqrt().item()
    return found
