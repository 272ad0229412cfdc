"""Bits per dimension of images by their names, as a record and a figure over the noise levels."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ddim.diffusion.bound import Bound
from ddim.diffusion.clipping import Clip
from ddim.diffusion.guidance import Label, plain
from ddim.diffusion.likelihood import METHODS, Likelihood, Way, eight_bit, of_batch, way_of
from ddim.diffusion.model import Model
from ddim.diffusion.sampling import chunks
from ddim.diffusion.solvers import Solver
from ddim.errors import InputError
from ddim.evaluation.report import clip_of
from ddim.images.selection import Selection
from ddim.jobs.bars import bar
from ddim.jobs.batch_lines import BatchLines
from ddim.jobs.continuing import continuing
from ddim.jobs.cost import foretell
from ddim.jobs.editing import digest
from ddim.jobs.latent_jobs import guide_of
from ddim.jobs.sampling import check_named, opened, said
from ddim.system.files import replacing
from ddim.system.json import write_json
from ddim.system.messages import counted
from ddim.system.processes import Alone


class EightBit(Selection):
    """Images of 8 bits a sample: of those with more, other values than their own would be measured."""

    def opened(self, i: int) -> Image.Image:
        image = super().opened(i)
        if image.mode.startswith(("I", "F")):
            raise InputError(f"{self.name(i)}: has more than 8 bits a sample; convert it to 8 bits first")
        return image


FEW = ": too much for a figure; take more steps"


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
    Called again with the same settings, it continues where it was stopped.

    Returns what likelihood.json holds. Raises InputError.
    """
    check_named(model, out)
    way = way_of(model, model.shape, method, steps, spacing, solver, variance, clip, probes, check, seed)
    chosen, out = EightBit(images, model.shape, skip_broken).outside(out).first(n), Path(out)
    n, label = len(chosen), plain(model, label, len(chosen))
    guide, workers = guide_of(model, label, 1.0, n), Alone(str(model.device))
    settings = settings_of(model, way) | {"label": label, "images": digest(chosen), "times": [way.times, way.halved]}
    with opened(out / "settings.json", settings, batch_size, model, workers, n, way.evaluations()) as size:
        kept = BatchLines(out / "batches.jsonl", list(chunks(n, size)), partial(kinds_of, way))
        missing = kept.missing()
        foretell(model, size, len(missing) * way.evaluations())
        total = sum(map(len, missing)) * way.evaluations()
        with continuing(out), bar("likelihood", total, progress) as advance:
            for indices in missing:
                some = eight_bit(torch.stack([chosen.decode(i) for i in indices])).to(model.device)
                kept.add(indices, part_of(of_batch(guide(indices), some, indices, way, partial(advance, len(indices)))))
        record = record_of(model, kept.all(), way, n)
        write_json(out / "likelihood.json", record)
        if method == "vlb":
            figure(record, out / "terms.png")
    return record | {"file": str(out / "likelihood.json")}


def settings_of(model: Model, way: Way) -> dict[str, Any]:
    """What decides the bits of an image, as the folder's settings keep it; the times, which are many, aside."""
    return {
        **model.identity,
        **{"method": way.method, "seed": way.seed},
        **{"steps": len(way.times) - 1, "variance": way.variance, "clip": said(model, way.clip)},
        **{"solver": way.solver and way.solver.name, "probes": way.probes},
    }


def part_of(found: Likelihood) -> dict[str, Any]:
    """What is kept of a batch: of each image its bits, and sums over the images of what only a mean is told of."""
    part = {"bits": found.bits.tolist(), "evaluations": found.evaluations}
    if found.bound:
        part |= {name: value.sum(0).tolist() for name, value in found.bound._asdict().items()}
    for name in ("halved", "gap"):
        if (value := getattr(found, name)) is not None:
            part[name] = value.sum().item()
    if found.probe_error is not None:
        part["probe_variance"] = (found.probe_error * len(found.bits)) ** 2  # of the sum
    return part


def kinds_of(way: Way, batch: range) -> dict[str, Any]:
    """The kinds of `part_of`."""
    images, steps = (tuple[(float,) * count] for count in (len(batch), len(way.times) - 1))
    kinds = {"bits": images, "evaluations": int}
    if way.method == "vlb":
        return kinds | {"prior": float} | dict.fromkeys(Bound._fields[1:], steps)
    kinds |= {"halved": float, "gap": float} if way.halved else {}
    return kinds | ({"probe_variance": float} if way.probes > 1 else {})


def record_of(model: Model, parts: list[dict[str, Any]], way: Way, n: int) -> dict[str, Any]:
    """What likelihood.json holds, of the parts of all batches."""
    names = parts[0].keys() - {"bits", "evaluations"}
    summed = {name: torch.tensor([part[name] for part in parts], dtype=torch.float64).sum(0) for name in names}
    bits = torch.tensor([value for part in parts for value in part["bits"]], dtype=torch.float64)
    record = {
        **{"method": way.method, "bits_per_dim": bits.mean().item()},
        **{"error": (bits.std() / math.sqrt(n)).item() if n > 1 else None, "n": n, "steps": len(way.times) - 1},
        **{"evaluations": max(part["evaluations"] for part in parts), "seed": way.seed, "times": list(way.times)},
        **{"model": model.facts.source, "fingerprint": model.fingerprint, "precision": model.facts.precision},
    }
    if way.method == "vlb":
        prior, terms, x0, eps = ((summed[name] / n).tolist() for name in Bound._fields)
        record |= {"variance": way.variance, "clip": clip_of(said(model, way.clip)), "prior": prior}
        record |= {"decoder": terms[-1], "kl": sum(terms[:-1]), "terms": terms, "x0_error": x0, "eps_error": eps}
    else:
        error = math.sqrt(summed["probe_variance"]) / n if way.probes > 1 else None
        record |= {"solver": way.solver.name, "probes": way.probes, "probe_error": error}
    if way.halved:
        record |= {name: (summed[name] / n).item() for name in ("halved", "gap")}
    return record | {"bits": bits.tolist()}


def lines(record: dict[str, Any]) -> list[str]:
    """A record in words: the first line has the bits/dim."""
    spread = "" if record["error"] is None else f" ± {record['error']:.4f}"
    first = (
        f"{record['bits_per_dim']:.4f}{spread} bits/dim of {counted(record['n'], 'image')}: {METHODS[record['method']]}"
    )
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
    total = f"{record['bits_per_dim']:.3f} bits/dim, {counted(record['n'], 'image')}, variance {record['variance']}"
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
