"""A sheet of images along directions of a model: `ddim explore`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ddim.diffusion import schedule
from ddim.diffusion.directions import Shifted, mean_difference, middle_along, middle_of, moved, principal, separation
from ddim.diffusion.latents import decode, encode
from ddim.diffusion.model import Model
from ddim.diffusion.noise import check_seed, normal
from ddim.diffusion.schedule import Time
from ddim.errors import InputError, check_whole, choose
from ddim.images.selection import Selection
from ddim.images.sources import check_outside
from ddim.jobs.bars import bar
from ddim.jobs.latent_jobs import batches_of
from ddim.jobs.sampling import check_named
from ddim.plots import sheets
from ddim.system.files import clean_abandoned, folder

SPACES = {"latent": "of the latents", "middle": "of the features in the middle of the U-Net"}
Space = Literal["latent", "middle"]


@dataclass(frozen=True)
class Explored:
    """The sheet, and what was measured."""

    sheet: Path
    n: int  # images that the directions were found from
    shares: list[float]  # of the variance, by principal component; empty for classes
    white: list[float]  # the same of white noise
    apart: float | None = None  # d′ of the two classes along their direction, on images that it was not found from
    changes: tuple[tuple[float, float], ...] = ()  # (strength, rms change of a pixel on [−1, 1])


@torch.no_grad()
def directions_figure(
    model: Model,
    out: str | Path,
    images: Sequence[str] = (),
    space: Space = "middle",
    classes: tuple[str, str] | None = None,
    n: int = 200,
    rows: int = 6,
    reach: float = 3.0,
    columns: int = 7,
    steps: int = 50,
    spacing: str = "linear",
    pick: int = 0,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> Explored:
    """Draw images along the directions of a model, in `out`/directions.png.

    Without classes: the principal components of n images, a row each, through image number `pick`, from −reach to
    +reach deviations. classes: two names of the images' own classes, as folders or labels give them: rows of images of
    the first are moved towards the second, by 0 to `reach` times the difference of the means.
    images: files, encoded first; without them, the samples of n seeds, whose latents are white by themselves.
    space: "latent", or "middle", where the direction has a part for each noise level. Raises InputError.
    """
    check_named(model, out), check_seed(seed), choose("space", space, SPACES)
    for name, value, least in (("n", n, 4), ("rows", rows, 1), ("columns", columns, 2)):
        check_whole(name, value, least)
    if not images and (space == "latent" or classes):
        raise InputError("the latents of seeds are white noise, of no class: name images")
    check_outside(out, *images)
    middle_of(model)
    path = schedule.grid(model.abar, steps, spacing)
    z, of = starts(model, images, classes, n, seed, path, batch_size, progress)
    first = found_from(of) if classes else slice(None)  # the others measure what is found
    features = along(model, z, path, batch_size, progress) if space == "middle" else z[None]  # (S or 1, n, …)
    by = torch.linspace(0 if classes else -reach, reach, columns).round(decimals=3) + 0.0  # no −0
    shares, white, apart = [], [], None
    if classes:
        direction = mean_difference(features[:, first], of[first])[:, None]  # (S or 1, 1, …)
        apart = separation(features[0][~first], of[~first], direction[0, 0])
        base = z[~of][:rows]
    else:
        found = principal(features.transpose(0, 1), rows)  # of all noise levels together, (n, S or 1, …)
        direction = (found.components * found.deviations.view(-1, 1, 1, 1, 1)).transpose(0, 1)  # (S or 1, rows, …)
        shares, white = found.shares.tolist(), found.white.tolist()
        if not 0 <= pick < len(z):
            raise InputError(f"image {pick} is not there: give a number from 0 to {len(z) - 1}")
        base = z[pick : pick + 1].expand(rows, -1, -1, -1)
    drawn = [at(model, base, direction, b.item(), path, space) for b in by]
    still = drawn[by.abs().argmin()]
    off = [(image - still).square().mean().sqrt().item() for image in drawn]
    sheet = folder(Path(out)) / "directions.png"
    clean_abandoned(sheet)
    names = [f"{k + 1}: {share:.0%}" for k, share in enumerate(shares)]
    picture = sheets.rows(list(torch.stack(drawn, 1)), names, heads=[f"{b:+.1f}" for b in by])
    changes = tuple(zip(by.tolist(), off, strict=True))
    return Explored(sheets.save(picture, sheet), len(z), shares, white, apart, changes)


def starts(
    model: Model, images, classes, n: int, seed: int, path: list[Time], batch_size: int | None, progress: bool
) -> tuple[Tensor, Tensor]:
    """The latents (n, C, H, W) that the directions are found from, and which are of the second class, (n,) of bool."""
    if not images:
        return normal(seed, range(n), model.shape), torch.zeros(n, dtype=torch.bool)
    chosen = Selection(images, model.shape)
    numbers, of = list(range(len(chosen))), []
    if classes:
        known = [chosen.label(i) for i in numbers]
        for name in classes:
            if name not in known:
                there = ", ".join(sorted({str(k) for k in known if k is not None})) or "none"
                raise InputError(f"no image is of class {name!r}; there are {there}")
        numbers = [i for i in numbers if known[i] in classes]
        of = [known[i] == classes[1] for i in numbers]
    numbers, made = numbers[:n], []
    batches = batches_of(model, len(numbers), batch_size)
    with bar("encoding", len(batches), progress) as advance:
        for batch in batches:
            x = chosen.batch(numbers[batch.start : batch.stop]).to(model.device)
            made.append(encode(model, x, times=path).cpu())
            advance()
    return torch.cat(made), torch.tensor(of[:n] or [False] * len(numbers))


def found_from(of: Tensor) -> Tensor:
    """Every other image of each kind: (n,) of bool. Raises InputError where a kind has fewer than four."""
    first = torch.zeros_like(of)
    for kind in (of, ~of):
        numbers = kind.nonzero().flatten()
        if len(numbers) < 4:
            raise InputError("a direction between classes needs four images of each; take a larger n, or more images")
        first[numbers[::2]] = True
    return first


def along(model: Model, z: Tensor, path: list[Time], batch_size: int | None, progress: bool) -> Tensor:
    """The middle features of the walks down from latents z: (S, n, c, h, w)."""
    batches, made = batches_of(model, len(z), batch_size), []
    with bar("features", len(batches), progress) as advance:
        for batch in batches:
            made.append(middle_along(model, z[batch.start : batch.stop].to(model.device), path)[1])
            advance()
    return torch.cat(made, 1)


def at(model: Model, z: Tensor, direction: Tensor, by: float, path: list[Time], space: str) -> Tensor:
    """The images of latents z (R, C, H, W) moved by so much: direction (S or 1, R or 1, …)."""
    if space == "latent":
        return decode(model, moved(z, direction[0], by).to(model.device), times=path).clamp(-1, 1).cpu()
    levels = dict(zip(path, direction, strict=False))
    shift: Callable = lambda t: by * (levels[t].expand(len(z), -1, -1, -1))  # noqa: E731
    return decode(Shifted(model, shift), z.to(model.device), times=path).clamp(-1, 1).cpu()
