"""What does a learned variance bring, and the cosine schedule? FID by S, bits/dim, and seconds, at equal training time.

Trains the same network three times for so many minutes of processor time (L_simple and L_hybrid on the linear schedule,
L_hybrid on the cosine one), samples each without noise (DDIM) and with each variance that it has (DDPM), and measures
bits/dim of images that it was not trained on. Or does the latter for models that there are. What is measured is kept in
the folder, cell by cell, so the same command continues, and one with more --steps adds to it.

    python bench/improved.py digits [--minutes 10] [--steps 10 20 50 100 1000] [--n 2000] [--held 180]
    python bench/improved.py cifar10 --data train.parquet --test test.parquet --ch 32 --minutes 15 --steps 10 20 50 100
    python bench/improved.py cifar10 --models cifar10 --data train.parquet --test test.parquet --steps 10 20 50 100
"""

import argparse
import json
import time
from pathlib import Path

import contest
import torch
from torch import Tensor

import ddim
from ddim.diffusion.course import course
from ddim.diffusion.model import Model
from ddim.errors import InputError
from ddim.evaluation import metrics
from ddim.evaluation.reference import reference
from ddim.images.selection import Selection
from ddim.images.sources import find
from ddim.system.json import read_json, write_json
from ddim.training.held_out import divided

VARIANTS = {
    "L_simple, linear": {},
    "L_hybrid, linear": {"loss": "hybrid"},
    "L_hybrid, cosine": {"loss": "hybrid", "schedule": "cosine"},
}
PRESETS = {"digits": {"preset": "digits"}, "cifar10": {"preset": "cifar10-laptop", "patch": 2}}
DDIM = "DDIM"


class Remembering:
    """A model that gives what it gave at a time before: the variances of a bound ask the same of it."""

    def __init__(self, model: Model):
        self.model, self.abar, self.kept = model, model.abar, {}
        self.shape, self.learns_variance = model.shape, model.learns_variance

    def __call__(self, x: Tensor, t: int):
        if t not in self.kept:
            self.kept[t] = self.model(x, t)
        return self.kept[t]


def trained(o: argparse.Namespace) -> dict[str, Path]:
    """The run folder of each variant, trained where that is not done. The clock is the processor's: other work on the
    machine takes none of a variant's time."""
    folders = {}
    for name, changes in VARIANTS.items():
        out = folders[name] = o.out / name.replace(", ", "-")
        whole = {**PRESETS[o.data_set], "time": f"{o.minutes}m", "held_out": 0.1, **changes}
        whole |= {"ch": o.ch} if o.ch else {}
        how = {"resume": True} if (out / "train.json").exists() else whole
        if not (out / "trained").exists():
            done = ddim.train(o.data or None, out, device="cpu", clock=time.process_time, **how)
            if not done.finished:
                raise SystemExit(130)
            (out / "trained").touch()
            print(f"{name}: {done.step} steps in {o.minutes:g} minutes of processor time", flush=True)
    return folders


def ways(model: Model) -> dict[str, dict]:
    """The samplers of a model."""
    noisy = ["small", "large", *(["learned"] if model.learns_variance else [])]
    return {DDIM: {"eta": 0.0}} | {f"DDPM {v}": {"eta": 1.0, "variance": v} for v in noisy}


def measured(model: Model, against, n: int, steps: int, how: dict, batch: int | None) -> dict:
    """FID of the first n images of seed 0, and their seconds of processor time."""
    start = time.process_time()
    images = ddim.sample(model, n, steps, solver="ddim", seed=0, batch_size=batch, **how)
    seconds = time.process_time() - start
    found = metrics.statistics(against.features, ddim.data.to_uint8(images))
    return {"fid": metrics.fid(against.statistics, found), "seconds": seconds, "n": n}


def unseen(o: argparse.Namespace, out: Path, model: Model) -> Tensor:
    """Images that a model was not trained on, (held, C, H, W) uint8: of --test, or those that its run held out."""
    if o.test:
        chosen = Selection([o.test], model.shape)
        return torch.stack([chosen.decode(i) for i in range(min(o.held, len(chosen)))])
    kept = read_json(out / "train.json")
    whole = ddim.data.load(find(kept["data"], kept["size"], kept["channels"]))
    return divided(whole, None, kept["held_out"], kept["seed"]).held[: o.held]


def bits(model: Model, images: Tensor) -> dict:
    """Bits/dim by the bound over all levels, for each variance; in batches, each asked once."""
    names, found = list(ways(model))[1:], {}
    for k, part in enumerate(images.split(max(1, min(64, 2**16 // images[0].numel())))):  # all levels fit in memory
        asked = Remembering(model)
        for name in names:
            one = ddim.likelihood(asked, part, variance=name.removeprefix("DDPM "), seed=k, batch_size=len(part))
            found.setdefault(name, []).append(one.bits)
    every = {name: torch.cat(parts) for name, parts in found.items()}
    return {name: {"mean": b.mean().item(), "error": (b.std() / len(b) ** 0.5).item()} for name, b in every.items()}


def fill(o: argparse.Namespace, folders: dict[str, Path], kept: dict) -> None:
    """Measure every cell that is not kept yet, the cheap ones first; write down each."""
    models = {name: ddim.prepare(ddim.load(str(path), "cpu"), o.precision) for name, path in folders.items()}
    for name, model in models.items():
        key = f"{name} | bits | {o.held}"
        if key not in kept and o.held:
            kept[key] = bits(model, unseen(o, folders[name], model)) | {"n": o.held}
            write_json(o.out / "improved.json", kept)
    if not o.steps:
        return
    against = reference(model, o.data or model.facts.data or "", n=o.n)
    kept |= {"floor": against.floor, "features": against.features.name}
    for steps in o.steps:
        for name, model in models.items():
            for way, how in ways(model).items():
                key = f"{name} | {way} | {steps} | {o.n}"
                if key not in kept:
                    course(model, "ddim", steps)
                    kept[key] = measured(model, against, o.n, steps, how, o.batch)
                    print(f"{key}: FID {kept[key]['fid']:.2f} in {kept[key]['seconds']:.0f} s", flush=True)
                    write_json(o.out / "improved.json", kept)


def table(o: argparse.Namespace, folders: dict[str, Path], kept: dict) -> str:
    """FID by S and bits/dim, a row a model and sampler."""
    rows = []
    for name, path in folders.items():
        found = kept.get(f"{name} | bits | {o.held}", {})
        for way in ways(ddim.load(str(path), "cpu")):
            cells = [kept[f"{name} | {way} | {steps} | {o.n}"] for steps in o.steps]
            b = f"{found[way]['mean']:.3f} ± {found[way]['error']:.3f}" if way in found else ""
            seconds = f"{1000 * cells[-1]['seconds'] / cells[-1]['n'] / o.steps[-1]:.2f}" if cells else ""
            rows.append([name, way, *(f"{c['fid']:.2f}" for c in cells), b, seconds])
    return contest.markdown(["trained by", "sampled by", *(f"S = {s}" for s in o.steps), "bits/dim", "ms/step"], rows)


def figure(o: argparse.Namespace, folders: dict[str, Path], kept: dict) -> Path:
    """FID over S: a colour a model, a line style a sampler."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    styles = {DDIM: "o-", "DDPM small": "^--", "DDPM large": "v:", "DDPM learned": "s-."}
    sheet = Figure(figsize=(8, 5), layout="constrained")
    axes = sheet.subplots()
    axes.set(xscale="log", yscale="log", xlabel="S", ylabel=f"FID ({kept['features']}), {o.n} images")
    for i, (name, path) in enumerate(folders.items()):
        for way in ways(ddim.load(str(path), "cpu")):
            fids = [kept[f"{name} | {way} | {steps} | {o.n}"]["fid"] for steps in o.steps]
            axes.plot(o.steps, fids, styles[way], color=f"C{i}", label=f"{name}: {way}", markersize=4, linewidth=1)
    if kept["floor"] and kept["floor"]["fid"] > axes.get_ylim()[0] / 3:  # not where it would press all else together
        axes.axhline(kept["floor"]["fid"], color="grey", linestyle=":", label="real images")
    axes.set_xticks(o.steps, map(str, o.steps))
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    sheet.legend(fontsize="x-small", ncols=3, loc="outside lower center")
    sheet.savefig(o.out / "improved.png", dpi=110)
    return o.out / "improved.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_set", choices=PRESETS)
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="measure these instead of training")
    parser.add_argument("--minutes", type=float, default=10, help="of processor time for each training (10)")
    parser.add_argument("--ch", type=int, help="width of the network, by default the preset's")
    parser.add_argument("--steps", type=int, nargs="*", default=[10, 20, 50, 100, 1000], help="none: bits/dim alone")
    parser.add_argument("--n", type=int, default=2000, help="samples a cell (2000)")
    parser.add_argument("--held", type=int, default=180, help="images for bits/dim (180)")
    parser.add_argument("--data", default="", help="training images, by default the preset's")
    parser.add_argument("--test", default="", help="images for bits/dim, by default those that a run holds out")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batch", type=int, help="images at a time")
    parser.add_argument("--out", type=Path, default=Path("improved"))
    o = parser.parse_args()
    try:
        folders = {name: Path(name) for name in o.models} if o.models else trained(o)
        path = o.out / "improved.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        fill(o, folders, kept)
    except InputError as error:
        parser.error(str(error))
    print(f"\n{table(o, folders, kept)}")
    if o.steps:
        print(f"\nfigure: {figure(o, folders, kept)}")


if __name__ == "__main__":
    main()
