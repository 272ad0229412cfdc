"""ddim demo: the main job in a few minutes, on real pictures that scikit-learn brings along."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ddim.checkpoints import folders as checkpoint
from ddim.cli.commands import parse
from ddim.cli.commands.train import train
from ddim.diffusion.model import Model
from ddim.diffusion.sampling import generate, grid, sample
from ddim.errors import InputError
from ddim.images import batches as data
from ddim.plots import sheets as plot
from ddim.system.progress import progress
from ddim.training.settings import PRESETS

ROWS = [("DDPM", 1000, 1.0), ("DDIM", 100, 0.0), ("DDIM", 50, 0.0), ("DDIM", 20, 0.0), ("DDIM", 10, 0.0)]
SHOWN, TIMED, JUDGED = 12, 64, 256  # pictures in the figure, in each timing, before the judge


@dataclass(frozen=True)
class Demo:
    """Train on handwritten digits for about two minutes, then sample them with DDPM and with DDIM."""

    out: Path = Path("demo")
    """Folder to write; a training that was stopped there is gone on with."""
    seed: int = 0
    """Of the training and of the pictures."""
    steps: int = PRESETS["digits"].steps
    """Training steps."""


def main(args: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    o = parse(Demo, "demo", args)
    run, preset = o.out / "run", replace(PRESETS["digits"], seed=o.seed, steps=o.steps)
    before = (run / "train.json").exists()
    if before:
        print(f"going on with the training in {run}; remove it to start anew")
    if not train("digits", preset, run, resume=before):
        raise InputError(f"stopped; ddim demo --out {o.out} goes on with it")
    model = checkpoint.load(run)

    table = Table("sampler", "S", "η", "seconds", "speed-up", title=f"{TIMED} pictures, same starting noise")
    pictures, base = [], 0.0
    with progress("sampling", sum(steps for _, steps, _ in ROWS)) as advance:
        for name, steps, eta in ROWS:
            start = time.perf_counter()
            for x, _ in generate(model, range(TIMED), grid(model, steps), eta, o.seed):
                advance()
            seconds = time.perf_counter() - start
            base = base or seconds
            pictures.append(x[:SHOWN])
            table.add_row(name, str(steps), f"{eta:g}", f"{seconds:.2f}", f"{base / seconds:.0f}×")
    labels = [f"{name}-{steps}" for name, steps, _ in ROWS]
    figure = plot.save(plot.rows(pictures, labels), o.out / "demo.png")
    Console().print(table)
    for line in judge(model, o.seed):
        print(line)
    print(f"model: {run}\nfigure: {figure}")


def judge(model: Model, seed: int) -> list[str]:
    """What a classifier of real digits makes of DDIM-50 samples, and how far they are from the training pictures.

    The classifier is sure where five nearest real digits agree: unlike a parametric one, it is not sure of noise.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neighbors import KNeighborsClassifier

    target = load_digits().target
    real = data.to_float(data.load(data.find("digits", 8, 1))).flatten(1)  # (1797, 64)
    seen, held, seen_y, held_y = train_test_split(real, target, test_size=0.2, random_state=0, stratify=target)
    classifier = KNeighborsClassifier(5).fit(seen, seen_y)
    fake = sample(model, n=JUDGED, steps=50, seed=seed).flatten(1)  # (256, 64)
    noise = torch.rand(fake.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def sure(images: Tensor) -> str:
        return f"{(classifier.predict_proba(images).max(1) > 0.8).mean():.1%}"

    def nearest(images: Tensor, skip: int) -> str:
        distance = torch.cdist(images, real).kthvalue(1 + skip, dim=1).values
        return f"median {distance.median():.2f}, least {distance.min():.2f}"

    classes = len(set(classifier.predict(fake)))
    return [
        f"A classifier that is right on {classifier.score(held, held_y):.1%} of held-out digits is over 80% sure of",
        f"  {sure(fake)} of {JUDGED} DDIM-50 samples, in which it finds {classes} of 10 digits",
        f"  {sure(held)} of held-out digits, {sure(noise)} of noise",
        "Distance to the nearest training picture, 64 pixels in [-1, 1]",
        f"  of samples: {nearest(fake, 0)}",
        f"  of each training picture, held out, to the others: {nearest(real, 1)}",
    ]
