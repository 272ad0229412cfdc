"""Bits per dimension of images by their names, as a record and a figure over the noise levels."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ddim.diffusion.clipping import Clip
from ddim.diffusion.guidance import Label
from ddim.diffusion.likelihood import METHODS, Likelihood, Way, eight_bit, of_batch, together, way_of
from ddim.diffusion.model import Model, levels
from ddim.diffusion.solvers import Solver
from ddim.errors import InputError, check_whole
from ddim.evaluation.report import clip_of
from ddim.images.selection import Selection
from ddim.jobs.bars import bar
from ddim.jobs.cost import foretell
from ddim.jobs.latent_jobs import batches_of, guide_of
from ddim.jobs.sampling import said
from ddim.system.files import folder, replacing
from ddim.system.json import write_json


class EightBit(Selection):
    """Images of 8 bits a sample: of those with more, other values than their own would be measured."""

    def opened(self, i: int) -> Image.Image:
        image = super().opened(i)
        if image.mode.startswith(("I", "F")):
            raise InputError(f"{self.name(i)}: has more than 8 bits a sample; convert it to 8 bits first")
        return image


FEW = ": too much for a figure; take more --steps"


def measure_likelihood(
    model: Model,
    images: Sequence[str],
    out: str | Path,
    method: str = "vlb",
    steps: int | None = None,
    spacing: str | None = None,
    solver: str | Solver = "unipc",
    variance: str | None = None,
    clip: Clip | bool | None = True,
    probes: int | None = None,
    check: bool = True,
    seed: int = 0,
    label: Label | None = None,
    n: int | None = None,
    batch_size: int | None = None,
    skip_broken: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Bits per dimension of images (files, folders, .parquet files, Hub ids), the first n of them or all, by
    `ddim.likelihood`, whose other arguments these are; into the folder `out`: likelihood.json and, of vlb, terms.png.

    Returns what likelihood.json holds. Raises InputError.
    """
    levels(model)
    way = way_of(model, model.shape, method, steps, spacing, solver, variance, clip, probes, check, seed)
    if n is not None:
        check_whole("n", n)
    chosen = EightBit(images, model.shape, skip_broken)
    n = min(len(chosen), n or len(chosen))
    guide, batches, out = guide_of(model, label, 1.0, n), batches_of(model, n, batch_size), folder(Path(out))
    foretell(model, len(batches[0]), len(batches) * way.evaluations())
    parts = []
    with bar("likelihood", n * way.evaluations(), progress) as advance:
        for indices in batches:
            some = eight_bit(torch.stack([chosen.decode(i) for i in indices])).to(model.device)
            parts.append(of_batch(guide(indices), some, indices, way, partial(advance, len(indices))))
    record = record_of(model, together(parts), way, n)
    write_json(out / "likelihood.json", record)
    if method == "vlb":
        figure(record, out / "terms.png")
    return record | {"file": str(out / "likelihood.json")}


def record_of(model: Model, found: Likelihood, way: Way, n: int) -> dict[str, Any]:
    """What likelihood.json holds."""
    error = found.error if n > 1 else None
    record = {
        **{"method": way.method, "bits_per_dim": found.mean, "error": error, "n": n, "steps": len(way.times) - 1},
        **{"evaluations": found.evaluations, "seed": way.seed, "times": list(way.times)},
        **{"model": model.facts.source, "fingerprint": model.fingerprint, "precision": model.facts.precision},
    }
    if found.bound:
        prior, terms, x0, eps = (value.mean(0).tolist() for value in found.bound)
        record |= {"variance": way.variance, "clip": clip_of(said(model, way.clip)), "prior": prior}
        record |= {"decoder": terms[-1], "kl": sum(terms[:-1]), "terms": terms, "x0_error": x0, "eps_error": eps}
    else:
        record |= {"solver": way.solver.name, "probes": way.probes, "probe_error": found.probe_error}
    if found.halved is not None:
        record |= {"halved": found.halved.mean().item(), "gap": found.gap.mean().item()}
    return record | {"bits": found.bits.tolist()}


def lines(record: dict[str, Any]) -> list[str]:
    """A record in words: the first line has the bits/dim."""
    spread = "" if record["error"] is None else f" ± {record['error']:.4f}"
    images = f"{record['n']} images" if record["n"] > 1 else "1 image"
    first = f"{record['bits_per_dim']:.4f}{spread} bits/dim of {images}: {METHODS[record['method']]}"
    if record["method"] == "vlb":
        how = f"{record['steps']} steps, variance {record['variance']}, x̂_0 clipped: {record['clip']}"
        kinds = {"prior": "prior", "steps": "kl", "decoder": "decoder"}
        parts = (f"{name} {record[key]:.4f}" for name, key in kinds.items())
        return [f"{first}, {how}", ", ".join(parts)]
    probes, error = record["probes"], record["probe_error"]
    trace = f"{probes} probes an image" if probes else "the exact trace"
    trace += f", which leave a standard error of {error:.4f}" if error is not None else ""
    told = [f"{first}, {record['steps']} steps of {record['solver']}", trace]
    if "halved" in record:
        change = record["bits_per_dim"] - record["halved"]
        told.append(f"{change:+.4f} against half the steps{FEW if abs(change) > 0.1 else ''}")
        told.append(f"{record['gap']:+.4f} would come with the way from t = 1 to the data, which is left out")
    return told


def figure(record: dict[str, Any], path: Path) -> Path:
    """The terms of the bound over t, and the errors of x̂_0 and ε."""
    from matplotlib.figure import Figure

    t, sheet = record["times"][:-1], Figure(figsize=(11, 4), layout="constrained")
    left, right = sheet.subplots(1, 2)
    left.plot(t, record["terms"], ".-", markersize=3, linewidth=0.8)
    total = f"{record['bits_per_dim']:.3f} bits/dim, {record['n']} images, variance {record['variance']}"
    left.set(title=total, ylabel="bits/dim of the step")
    right.plot(t, record["x0_error"], ".-", markersize=3, linewidth=0.8, label="x̂_0")
    right.plot(t, record["eps_error"], ".-", markersize=3, linewidth=0.8, label="ε")
    right.set(ylabel="mean square error", title="of what is predicted, images in [−1, 1]")
    right.legend()
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="t")
        axes.grid(alpha=0.3)
    with replacing(path) as part:
        sheet.savefig(part, dpi=120)
    return path
