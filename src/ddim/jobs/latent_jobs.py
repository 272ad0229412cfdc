"""Encoding images into a file of latents, and decoding it again, in batches of any number of images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddim.diffusion.course import course, is_tuned
from ddim.diffusion.guidance import Guidance, Label, guided, kept, labels_of, plain
from ddim.diffusion.latents import decoding, encoding, latents_of
from ddim.diffusion.model import Denoiser, Model
from ddim.diffusion.sampling import chunks, default_batch_size
from ddim.diffusion.schedule import Time, grid
from ddim.diffusion.solvers import Adaptive, Exact, Implicit, Solver, find
from ddim.diffusion.walk import Moment
from ddim.errors import InputError
from ddim.images.pixels import to_uint8
from ddim.images.selection import Selection
from ddim.jobs.adaptive_steps import keep, summary
from ddim.jobs.bars import bar
from ddim.jobs.continuing import continuing
from ddim.jobs.cost import calls_of, foretell
from ddim.jobs.image_files import Pngs
from ddim.jobs.latent_files import LatentFile, writing
from ddim.jobs.sampling import SHEET, check_named, opened, share_of, sheet_beside
from ddim.jobs.unfinished import unfinished
from ddim.plots import sheets
from ddim.system.processes import Alone


@dataclass(frozen=True)
class Encoded:
    """What `encode_files` made: n latents, their mean and deviation (0 and 1 for N(0, 1)), and the largest residual of
    the implicit solver's steps (0 for the others)."""

    file: Path
    n: int
    mean: float
    deviation: float
    residual: float
    adaptive: str | None = None  # what an adaptive solver took


def data_course(
    model: Denoiser, solver: str | Solver, steps: int, spacing: str = "linear", times: Sequence[Time] | None = None
) -> tuple[list[Time], Solver]:
    """A grid between images and latents, which ends at 0, where the images are; and its solver. Raises InputError."""
    path, how = course(model, solver, steps, spacing, times)
    if path[-1] != 0:
        raise InputError(f"times must end at 0, where the images are; got {path[-1]}")
    return path, how


def guide_of(model: Model, label: Label | None, guidance: float | Guidance, n: int) -> Callable[[range], Denoiser]:
    """What makes the model of a batch of n numbered images, given their classes. Raises InputError."""
    labels = None if label is None else labels_of(model, label, n)  # (n,)
    guided(model, labels, guidance)
    return lambda batch: guided(model, None if labels is None else labels[batch.start : batch.stop], guidance)


def batches_of(model: Model, n: int, batch_size: int | None = None) -> list[range]:
    """range(n) in batches of `batch_size`, by default of what fits in memory."""
    return list(chunks(n, default_batch_size(model) if batch_size is None else batch_size))


def ends(moment: Moment, x: Tensor, solver: Solver) -> dict[str, Tensor]:
    """What is kept of the end of an encoding of x (B, C, H, W): the latents z, what stands `before` them where they are
    pairs, and the largest residual of an implicit step."""
    latents = latents_of(moment, x)
    parts = zip(("z", "before"), latents if isinstance(latents, tuple) else (latents,), strict=False)
    return dict(parts) | {"residual": moment.state.max() if isinstance(solver, Implicit) else torch.zeros(())}


@torch.no_grad()
def encode_files(
    model: Model,
    images: Sequence[str],
    out: str | Path,
    steps: int = 100,
    spacing: str = "linear",
    times: Sequence[Time] | None = None,
    solver: str | Solver = "ddim",
    batch_size: int | None = None,
    skip_broken: bool = False,
    progress: bool = False,
    label: Label | None = None,
    guidance: float | Guidance = 1.0,
    n: int | None = None,
) -> Encoded:
    """Encode images (files, folders, .parquet files, Hub ids) into the safetensors file `out`; see `ddim.encode`.
    Called again after it was stopped, it continues.

    label, guidance: the class of the images, or one an image, as in `ddim.sample`.  n: take the first n only. Raises
    InputError.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: latents are kept as .safetensors; give the name this ending")
    path, solver = data_course(model, find(solver), steps, spacing, times)
    chosen = Selection(images, model.shape, skip_broken).first(n)
    label, batches = plain(model, label, len(chosen), guidance), batches_of(model, len(chosen), batch_size)
    guide = guide_of(model, label, guidance, len(chosen))
    names = [chosen.name(i) for i in range(len(chosen))]
    about = {"model": model.fingerprint, "solver": solver.name, "times": path, "names": names}
    about |= {} if label is None else {"label": label, "guidance": kept(guidance)}
    tensors = ("z", "before") if isinstance(solver, Exact) else ("z",)
    beside = out.with_suffix(".evaluations.jsonl")
    residual, sums = 0.0, torch.zeros(2, dtype=torch.float64)  # of latents, of their squares
    foretell(model, len(batches[0]), len(batches) * calls_of(solver, path[::-1]))
    settings = {name: value for name, value in about.items() if name != "names"} | model.identity
    with (
        unfinished(out.with_name(f"{out.name}.unfinished"), settings) as done,
        writing(out, tensors, (len(chosen), *model.shape), about) as append,
        bar("encoding", len(batches) * (len(path) - 1), progress) as advance,
    ):
        if isinstance(solver, Adaptive) and not done.files():
            beside.unlink(missing_ok=True)
        for indices in batches:
            x = chosen.batch(indices).to(model.device)  # (B, C, H, W)
            file = done.file(indices, x, "z")
            if (parts := done.read(file)) is None:
                for moment in encoding(guide(indices), x, path, solver):
                    advance()
                keep(beside, indices, moment.state)
                parts = done.keep(file, ends(moment, x, solver))
            else:
                advance(len(path) - 1)
            append(*(parts[name] for name in tensors))
            residual = max(residual, parts["residual"].item())
            z = parts["z"].double()
            sums += torch.stack([z.sum(), z.square().sum()])
    mean, square = (sums / (len(chosen) * x[0].numel())).tolist()
    return Encoded(out, len(chosen), mean, max(square - mean**2, 0) ** 0.5, residual, summary(beside, len(chosen)))


@dataclass(frozen=True)
class Decoded:
    """What `decode_files` made: n PNG files in `images`, and the first `shown` of them as one sheet."""

    images: Path
    n: int
    sheet: Path
    shown: int


@torch.no_grad()
def decode_files(
    model: Model,
    latents: str | Path,
    out: str | Path,
    steps: int | None = None,
    spacing: str | None = None,
    times: Sequence[Time] | None = None,
    solver: str | Solver | None = None,
    force: bool = False,
    batch_size: int | None = None,
    progress: bool = False,
    label: Label | None = None,
    guidance: float | Guidance | None = None,
) -> Decoded:
    """Decode a file of latents into PNG files in the folder `out`; the sheet of the first 64 lies beside it. Called
    again with the same settings, it continues where it was stopped.

    steps, spacing, times: by default the grid that the latents were made on. Another grid, or another model than
    theirs, needs `force`. solver: by default the one that they were made with; pairs need `exact`.
    label, guidance: by default those that they were made with. Raises InputError.
    """
    check_named(model, out)
    file, out, workers = LatentFile(Path(latents)), Path(out), Alone(str(model.device))
    if is_tuned(solver):
        times, solver = course(model, solver, steps or len(file.times) - 1, times=times)
    path = checked_grid(file, Path(latents), model, steps, spacing, times, force)
    solver, beside, n = decoder(file, Path(latents), solver), sheet_beside(out), len(file)
    guidance = file.about.get("guidance", 1.0) if guidance is None else guidance
    label = plain(model, file.about.get("label") if label is None else label, n, guidance)
    guide = guide_of(model, label, guidance, n)
    settings = {
        **model.identity,
        **{"latents": file.digest()},
        **{"steps": len(path) - 1, "solver": solver.name, "label": label, "guidance": kept(guidance), "times": path},
    }
    with opened(out / "decode.json", settings, batch_size, model, workers, n, calls_of(solver, path)) as size:
        files = Pngs(out)
        share = share_of(files, list(chunks(n, size)), model.shape, workers)
        foretell(model, size, len(share) * calls_of(solver, path))
        with continuing(out), bar("decoding", len(share) * (len(path) - 1), progress) as advance:
            for indices in share:
                for moment in decoding(guide(indices), file.batch(indices, model.device), path, solver):
                    advance()
                files.write(indices, to_uint8(moment.x.float()).cpu())
        first = min(n, SHEET)
        return Decoded(out, n, sheets.save(sheets.grid(files.read(range(first))), beside), first)


def decoder(file: LatentFile, name: Path, solver: str | Solver | None) -> Solver:
    """The solver to decode by: as named, else as the file says. Raises InputError where a pair needs `exact`."""
    chosen = find(solver or str(file.about.get("solver") or ("exact" if file.pairs else "ddim")))  # old files: no word
    if file.pairs and not isinstance(chosen, Exact):
        raise InputError(f"{name}: holds pairs of latents, which solver exact alone decodes; leave out the solver")
    return find("ddim") if isinstance(chosen, Implicit) else chosen  # its inverse is DDIM's step


def checked_grid(file: LatentFile, name: Path, model: Model, steps, spacing, times, force: bool) -> list[Time]:
    """The grid to decode on. Raises InputError where latents do not belong to the model or to the grid."""
    if file.shape[1:] != tuple(model.shape):
        raise InputError(f"{name}: latents of shape {file.shape[1:]}; this model makes {tuple(model.shape)}")
    if model.fingerprint != file.model and not force:
        raise InputError(
            f"{name}: made with another model ({file.model}; this one is {model.fingerprint}); force decodes anyway"
        )
    own = file.times
    path = own
    if times is not None or steps is not None or spacing is not None:
        path = grid(model.abar, len(own) - 1 if steps is None else steps, spacing or "linear", times)
    path = grid(model.abar, 1, given=path)  # those of the file are checked against this model too
    if path != own and not force:
        raise InputError(f"{name}: made on another grid, of {len(own) - 1} steps; force decodes anyway")
    if file.pairs and path[:2] != own[:2]:
        raise InputError(f"{name}: exact latents live at times {own[0]} and {own[1]}; a grid must begin with these")
    return path
