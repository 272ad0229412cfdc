"""Are latents of data N(0, I), as the theory has them? Norm, moments, neighbours and quantiles, by S and solver."""

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddim.diffusion.latents import check_pair_grid, encoding
from ddim.diffusion.model import Model, levels
from ddim.diffusion.noise import normal
from ddim.diffusion.schedule import Time, grid
from ddim.diffusion.solvers import Exact, Solver, find
from ddim.diffusion.walk import last
from ddim.errors import check_whole, listed
from ddim.images.selection import Selection
from ddim.jobs.bars import bar
from ddim.jobs.cost import calls_of, foretell
from ddim.jobs.latent_jobs import batches_of
from ddim.jobs.unfinished import unfinished
from ddim.system.files import folder, replacing
from ddim.system.json import write_json

STEPS = (10, 50, 200)
NOISE = "N(0, I)"  # the row of noise itself, as many images: what is left to chance
QUANTILES = 400
MOST = 10**6  # values that quantiles are taken of


def law(z: Tensor) -> dict[str, float]:
    """What N latents (N, C, H, W), N ≥ 2, have of N(0, I), beside what that has.

    norm, norm_deviation: of ‖z‖/√D over the images: 1 and about 1/√(2 D).
    mean, deviation: root mean squares over the coordinates of each one's mean and deviation: about 1/√N, and 1.
    uneven: the standard deviation over the coordinates of their deviations: about 1/√(2 N).
    skewness, kurtosis: of each coordinate in its own units, all together, the latter less 3: 0 and 0.
    neighbours: correlation of pixels that touch: 0.
    """
    z = z.double()
    flat = z.flatten(1)  # (N, D)
    radius = flat.norm(dim=1) / sqrt(flat.shape[1])
    mean, deviation = flat.mean(0), flat.std(0)
    unit = (flat - mean) / deviation.clamp(min=1e-12)
    centred = z - z.mean(0)
    pairs = [(centred[..., :-1], centred[..., 1:]), (centred[..., :-1, :], centred[..., 1:, :])]
    products, first, second = (sum((a * b).sum() for a, b in which) for which in (
        pairs, [(a, a) for a, _ in pairs], [(b, b) for _, b in pairs]
    ))  # fmt: skip
    return {
        name: float(value)
        for name, value in {
            **{"norm": radius.mean(), "norm_deviation": radius.std()},
            **{"mean": mean.square().mean().sqrt(), "deviation": deviation.square().mean().sqrt()},
            **{"uneven": deviation.std(), "skewness": (unit**3).mean(), "kurtosis": (unit**4).mean() - 3},
            **{"neighbours": products / (first * second).sqrt()},
        }.items()
    }


def quantiles(z: Tensor) -> Tensor:
    """The quantiles of all values, (QUANTILES,), at the middles of as many equal shares."""
    values = z.flatten().double()
    values = values[:: -(-len(values) // MOST)]
    return values.quantile(shares())


def shares() -> Tensor:
    return (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES


@torch.no_grad()
def latents_law(
    model: Model,
    images: Sequence[str],
    out: str | Path,
    steps: Sequence[int] = STEPS,
    solvers: Sequence[str | Solver] = ("ddim", "unipc"),
    spacing: str = "linear",
    n: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    skip_broken: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Encode images (files, folders, .parquet files, Hub ids), the first n or all, by each solver in each number of
    steps, and compare their latents with N(0, I): into the folder `out`, latents.json and latents.png.

    Returns what latents.json holds: `rows`, each a solver, its steps and what `law` tells; the last is of noise, as
    many images of `seed`. Raises InputError.
    """
    levels(model)
    ways = ways_of(model, listed("steps", steps), listed("solvers", solvers), spacing)
    if n is not None:
        check_whole("n", n, 2)
    chosen = Selection(images, model.shape, skip_broken).outside(out)
    n = min(len(chosen), n or len(chosen))
    check_whole("the number of images", n, 2)
    batches, found = batches_of(model, n, batch_size), {way: [] for way in ways}
    calls = sum(calls_of(solver, times) for solver, times in ways.values())
    foretell(model, len(batches[0]), len(batches) * calls)
    out = folder(Path(out))
    settings = model.identity | {"spacing": spacing}
    with unfinished(out / "unfinished", settings) as done, bar("encoding", n * len(ways), progress) as advance:
        for indices in batches:
            x = chosen.batch(indices).to(model.device)  # (B, C, H, W)
            for way, (solver, times) in ways.items():
                file = done.file(indices, x, str(way))
                if (parts := done.read(file)) is None:
                    parts = done.keep(file, {"z": last(encoding(model, x, times, solver)).x.float()})
                found[way].append(parts["z"])
                advance(len(indices))
    latents = {way: torch.cat(parts) for way, parts in found.items()}
    latents[NOISE, 0] = normal(seed, range(n), model.shape)
    rows = [{"solver": name, "steps": S, **law(z)} for (name, S), z in latents.items()]
    record = {"n": n, "dimensions": latents[NOISE, 0][0].numel(), "spacing": spacing, "seed": seed}
    record |= {"model": model.facts.source, "fingerprint": model.fingerprint, "rows": rows}
    write_json(out / "latents.json", record)
    figure(latents, out / "latents.png")
    return record | {"file": str(out / "latents.json"), "figure": str(out / "latents.png")}


def ways_of(
    model: Model, steps: Sequence[int], solvers: Sequence[str | Solver], spacing: str
) -> dict[tuple[str, int], tuple[Solver, list[Time]]]:
    """The solver and the grid of each solver's name and number of steps. Raises InputError."""
    ways = {}
    for solver in map(find, solvers):
        for S in steps:
            times = grid(model.abar, S, spacing)
            if isinstance(solver, Exact):
                check_pair_grid(times)
            ways[solver.name, S] = solver, times
    return ways


def figure(latents: dict[tuple[str, int], Tensor], path: Path) -> Path:
    """Quantiles of all values less those of N(0, 1), and the norms."""
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = sheet.subplots(1, 2)
    expected = torch.special.ndtri(shares())
    names = list(dict.fromkeys(name for name, _ in latents))
    styles = dict(zip(names, ("-", "--", ":", "-.", (0, (1, 3)), (0, (5, 1))) * len(names), strict=False))
    every = sorted({S for _, S in latents if S})
    for (name, S), z in latents.items():
        noise = name == NOISE
        look = {"linestyle": "-" if noise else styles[name], "color": "black" if noise else f"C{every.index(S)}"}
        label = NOISE if noise else f"{name}, S = {S}"
        left.plot(expected, quantiles(z), linewidth=1, label=label, **look)
        radius = (z.flatten(1).double().norm(dim=1) / sqrt(z[0].numel())).sort().values
        right.plot(radius, (torch.arange(len(radius)) + 0.5) / len(radius), linewidth=1, **look)
    left.set(xlabel="quantiles of N(0, 1)", ylabel="quantiles of the latents' values")
    right.set(xlabel="‖z‖/√D", ylabel="share of images with less")
    left.legend(fontsize="small")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    with replacing(path) as part:
        sheet.savefig(part, dpi=120)
    return path
