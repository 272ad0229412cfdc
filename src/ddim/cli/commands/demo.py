"""ddim demo: the main job in a few minutes, on real images that scikit-learn brings along."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddim.cli.options import parse
from ddim.errors import InputError
from ddim.system.messages import say
from ddim.training.presets import PRESETS

EXAMPLES = (
    "ddim demo",
    "ddim demo --out quick --steps 500                    # half a minute, and worse digits",
)
ROWS = [("DDPM", 1000, 1.0), ("DDIM", 100, 0.0), ("DDIM", 50, 0.0), ("DDIM", 20, 0.0), ("DDIM", 10, 0.0)]
SHOWN, TIMED, CLASSIFIED = 12, 64, 256  # images in the figure, in each timing, before the classifier


@dataclass(frozen=True)
class Demo:
    """It ends with the time of each way to sample, and a figure."""

    out: Path = Path("demo")
    """Folder to write; a training that was stopped there is continued."""
    seed: int = 0
    """Seed of the training and of the images."""
    steps: int = PRESETS["digits"].optimiser.steps
    """Steps of the training."""


def main(args: Sequence[str]) -> None:
    o = parse(Demo, "demo", args)
    import torch
    from rich.console import Console
    from rich.table import Table

    from ddim.checkpoints.loading import load
    from ddim.diffusion.course import course, sampling_course
    from ddim.diffusion.sampling import generate
    from ddim.plots import sheets
    from ddim.system.progress import progress
    from ddim.training.trainer import train

    run = o.out / "run"
    before = (run / "train.json").exists()
    if before:
        say(f"continuing the training in {run}; remove it to start anew")
    made = train(None, run, "digits", before, progress=True, seed=o.seed, steps=o.steps)
    if not made.finished:
        raise InputError(f"stopped; ddim demo --out {o.out} continues it")
    model = load(run)

    ways = [(name, eta, *course(model, "ddim", steps)) for name, steps, eta in ROWS]
    default = sampling_course(model)
    ways.append((default.solver.name, 0.0, default.times, default.solver))
    table = Table("sampler", "S", "η", "seconds", "speed-up", title=f"{TIMED} images, same starting noise")
    images, base = [], 0.0
    with torch.no_grad(), progress("sampling", sum(len(times) - 1 for _, _, times, _ in ways)) as advance:
        for name, eta, times, solver in ways:
            start = time.perf_counter()
            for moment in generate(model, range(TIMED), times, eta, o.seed, solver=solver):
                advance()
            seconds = time.perf_counter() - start
            base = base or seconds
            images.append(moment.x[:SHOWN])
            table.add_row(name, str(len(times) - 1), f"{eta:g}", f"{seconds:.2f}", f"{base / seconds:.0f}×")
    labels = [f"{name}-{len(times) - 1}" for name, _, times, _ in ways]
    figure = sheets.save(sheets.rows(images, labels), o.out / "demo.png")
    Console().print(table)
    for line in classified(model, o.seed):
        say(line)
    say(f"model: {run}", f"figure: {figure}")


def classified(model, seed: int) -> list[str]:
    """What a classifier of real digits makes of DDIM-50 samples, and how far they are from the training images.

    The classifier is sure where five nearest real digits agree: unlike a parametric one, it is not sure of noise.
    """
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neighbors import KNeighborsClassifier

    from ddim.diffusion.sampling import sample
    from ddim.images.cache import load
    from ddim.images.pixels import to_float
    from ddim.images.sources import find

    target = load_digits().target
    real = to_float(load(find("digits", 8, 1))).flatten(1)  # (1797, 64)
    seen, held, seen_y, held_y = train_test_split(real, target, test_size=0.2, random_state=0, stratify=target)
    classifier = KNeighborsClassifier(5).fit(seen, seen_y)
    fake = sample(model, n=CLASSIFIED, steps=50, seed=seed, solver="ddim").flatten(1)  # (256, 64)
    noise = torch.rand(fake.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def sure(images) -> str:
        return f"{(classifier.predict_proba(images).max(1) > 0.8).mean():.1%}"

    def nearest(images, skip: int) -> str:
        distance = torch.cdist(images, real).kthvalue(1 + skip, dim=1).values
        return f"median {distance.median():.2f}, least {distance.min():.2f}"

    classes = len(set(classifier.predict(fake)))
    return [
        f"A classifier that is right on {classifier.score(held, held_y):.1%} of held-out digits is over 80% sure of",
        f"  {sure(fake)} of {CLASSIFIED} DDIM-50 samples, in which it finds {classes} of 10 digits",
        f"  {sure(held)} of held-out digits, {sure(noise)} of noise",
        "Distance to the nearest training image, 64 pixels in [-1, 1]",
        f"  of samples: {nearest(fake, 0)}",
        f"  of each training image, held out, to the others: {nearest(real, 1)}",
    ]
