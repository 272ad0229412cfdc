"""Editing many images as a job: restoring what is known in part, varying, another class. Continued after a kill."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddim.diffusion.model import Model
from ddim.diffusion.sampling import chunks
from ddim.diffusion.walk import Moment
from ddim.errors import InputError
from ddim.images.pixels import to_float, to_uint8
from ddim.images.selection import Selection
from ddim.jobs.bars import bar
from ddim.jobs.continuing import continuing
from ddim.jobs.cost import foretell
from ddim.jobs.image_files import Pngs
from ddim.jobs.sampling import opened, share_of, sheet_beside
from ddim.plots import sheets
from ddim.system.processes import processes

ROWS, COLUMNS = 8, 8  # of a sheet: images, and results of each


@dataclass(frozen=True)
class Edited:
    """What an editing job wrote: image k of the folder is answer k % answers of image (k // answers) % n, in the way
    k // (n · answers).
    """

    images: Path
    sheet: Path
    n: int  # images that were edited
    answers: int
    shown: int  # of the n on the sheet
    made: Pngs = field(repr=False)

    def results(self, way: int = 0) -> Tensor:
        """Those of one way, (n, answers, C, H, W) in [−1, 1]."""
        size = self.n * self.answers
        found = to_float(self.made.read(range(way * size, (way + 1) * size)))
        return found.view(self.n, self.answers, *found.shape[1:])


@dataclass(frozen=True)
class Work:
    """n images, each edited in `ways` ways with so many answers.

    walk: (rows: which images, answers: which answer of each, way) -> a walk;  finish: (x, rows) -> images of [−1, 1].
    """

    n: int
    answers: int
    ways: int
    steps: int  # of one way's walk, of the longest
    calls: int  # of the network a step
    walk: Callable[[list[int], list[int], int], Iterator[Moment]]
    finish: Callable[[Tensor, list[int]], Tensor]

    @property
    def shown(self) -> int:
        """How many answers of an image and a way stand on the sheet."""
        return min(self.answers, max(1, COLUMNS // self.ways))

    def batches(self, size: int) -> list[range]:
        """All answers in batches, each of one way."""
        whole = self.n * self.answers
        return [range(b.start + w * whole, b.stop + w * whole) for w in range(self.ways) for b in chunks(whole, size)]

    def place(self, batch: range) -> tuple[list[int], list[int], int]:
        """Of a batch: which images, which answer of each, and the way."""
        whole = self.n * self.answers
        return (
            [k % whole // self.answers for k in batch],
            [k % self.answers for k in batch],
            batch.start // whole,
        )


@torch.no_grad()
def edit(
    model: Model,
    work: Work,
    out: str | Path,
    settings: dict[str, Any],
    columns: Callable[[int], list[Tensor]],
    heads: Sequence[str],
    what: str,
    doing: str,
    batch_size: int | None = None,
    progress: bool = False,
    workers=None,
) -> Edited | None:
    """Do a work into the folder `out`, a PNG file an image, and draw the sheet of the first ones beside it.

    settings: what decides the images; with the same ones it continues where it was stopped, by the file named
    after `what`.  columns: of image i, what stands on the sheet before the results, each (C, H, W).  doing: the bar's
    name. Returns None in the processes that help. Raises InputError.
    """
    out, workers = Path(out), workers or processes(str(model.device))
    beside = sheet_beside(out)
    n, calls = work.n * work.answers, work.steps * work.calls
    with opened(out / f"{what}.json", settings, batch_size, model, workers, n, calls) as size:
        files, batches = Pngs(out), work.batches(size)
        share = share_of(files, batches, model.shape, workers)
        workers.wait_for_everyone()
        total = len(share) * work.steps
        if workers.is_main_process:
            foretell(model, size, total * work.calls)
        with continuing(out), bar(doing, total, progress and workers.is_main_process) as advance:
            for batch in share:
                rows, answers, way = work.place(batch)
                for moment in work.walk(rows, answers, way):
                    advance()
                files.write(batch, to_uint8(work.finish(moment.x, rows)).cpu())
            workers.wait_for_everyone()
        if not workers.is_main_process:
            return None
        shown = min(work.n, ROWS)
        done = Edited(out, beside, work.n, work.answers, shown, files)
        found = torch.cat([done.results(way)[:shown, : work.shown] for way in range(work.ways)], dim=1)
        drawn = [torch.cat([torch.stack(columns(i)), found[i]]) for i in range(shown)]
        sheets.save(sheets.rows(drawn, heads=[*heads, *[""] * (drawn[0].shape[0] - len(heads))]), beside)
        return done


def digest(values: Sequence[Tensor] | Selection | Tensor) -> str:
    """Sixteen hex digits that name images, so that a job does not continue with others."""
    found = hashlib.sha256()
    if isinstance(values, Selection):
        for batch in chunks(len(values), 64):
            found.update(to_uint8(values.batch(batch)).numpy().tobytes())
    else:
        found.update(torch.as_tensor(values).contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def read_mask(path: str | Path, shape: Sequence[int]) -> Tensor:
    """A mask file, black and white, as (H, W) of bool. Raises InputError where it is none."""
    from PIL import Image, UnidentifiedImageError

    from ddim.diffusion.operators import Inpainting

    try:
        with Image.open(path) as image:
            grey = torch.frombuffer(bytearray(image.convert("L").tobytes()), dtype=torch.uint8)
            mask = grey.view(image.height, image.width)
    except FileNotFoundError:
        raise InputError(f"{path}: no such mask; name an image file, white where the image is made anew") from None
    except (UnidentifiedImageError, OSError, ValueError):
        raise InputError(f"{path}: no image that can be read; name a mask, black and white") from None
    if mask.shape != tuple(shape[1:]):
        there, here = ("×".join(map(str, s)) for s in (mask.shape, shape[1:]))
        raise InputError(f"{path}: the mask is {there} and the images {here}: give a mask of {here} (height × width)")
    try:
        return Inpainting(mask).mask[0, 0]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
