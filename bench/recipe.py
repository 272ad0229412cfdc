"""What helps a small budget? The same small network on CIFAR-10 in the same time and seed, one thing changed at a time.

The base sees so many images, each other recipe as many as it takes in the same time, by steps of all of them in turns.
Of the averaged weights are measured: the error of ε on images that were held out, by noise level, and FID of the same
noises in 50 noisy steps (η = 1) and 20 steps of `unipc`. What is measured is kept in the folder, so the same command
continues.

    python bench/recipe.py --data train.parquet [--images 80000] [--ch 32] [--n 1000] [--only NAME …]
"""

import argparse
import copy
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import contest
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

import ddim
from ddim.diffusion.model import Model
from ddim.diffusion.process import marginal
from ddim.evaluation import metrics
from ddim.evaluation.reference import Reference, reference
from ddim.images import to_float
from ddim.images.batches import order
from ddim.images.cache import load
from ddim.images.sources import find
from ddim.system.json import write_json
from ddim.system.machine import keep_memory
from ddim.training import resampling
from ddim.training.held_out import divided
from ddim.training.loop import ema, rate
from ddim.training.loss import randomness, target
from ddim.training.new_model import build
from ddim.training.presets import PRESETS

SHARES = {"1/100": 1 / 100, "1/30": 1 / 30, "1/10": 1 / 10, "1/3": 1 / 3}  # of the steps, that the average is over
USUAL = "1/30"


@dataclass(frozen=True)
class Recipe:
    """What a training changes. batches: over equal parts of the images. snr: where min-SNR weights end, γ. times: how
    they are drawn. assigned: each image gets a noise of the batch that is near to it."""

    network: dict = field(default_factory=dict)
    batches: tuple[int, ...] = (32,)
    snr: float | None = None
    times: str = "uniform"
    assigned: bool = False
    predicts: str = "eps"
    seed: int = 0


RECIPES = {
    "the base": Recipe(),
    "seed 1": Recipe(seed=1),
    "seed 2": Recipe(seed=2),
    "min-SNR weights, γ = 5": Recipe(snr=5.0),
    "noises assigned (immiscible)": Recipe(assigned=True),
    "assigned, batches of 128": Recipe(assigned=True, batches=(128,)),
    "batches of 128": Recipe(batches=(128,)),
    "times by their losses, unbiased": Recipe(times="history"),
    "times logit-normal": Recipe(times="logit-normal"),
    "v-prediction": Recipe(predicts="v"),
    "batches of 16, 32, 64": Recipe(batches=(16, 32, 64)),
    "width 64": Recipe(network={"ch": 64}),
    "no patches": Recipe(network={"patch": 1}),
}


def near(x0: Tensor, eps: Tensor) -> Tensor:
    """The noises of a batch in the order that makes the sum of squared distances to the images least (arXiv 2406.12303,
    equation 6)."""
    from scipy.optimize import linear_sum_assignment

    _, chosen = linear_sum_assignment(torch.cdist(x0.flatten(1), eps.flatten(1)).square())
    return eps[torch.from_numpy(chosen)]


class Loss:
    """The loss of a batch by a recipe, a pixel."""

    def __init__(self, recipe: Recipe, abar: Tensor):
        self.recipe, self.abar, self.history = recipe, abar.float(), resampling.empty(len(abar) - 1)

    def times(self, step: int, uniform: Tensor) -> Tensor:
        """Times (N,) in 1..T."""
        T, n, seed = len(self.history), len(uniform), self.recipe.seed
        if self.recipe.times == "history":
            return resampling.draw(self.history, seed, step, n)
        if self.recipe.times == "logit-normal":
            z = torch.randn(n, generator=torch.Generator().manual_seed(seed * 2**32 + step))
            return (z.sigmoid() * T).long().clamp(0, T - 1) + 1
        return uniform

    def __call__(self, network, step: int, x0: Tensor, uniform: Tensor, eps: Tensor) -> Tensor:
        times, eps = self.times(step, uniform), near(x0, eps) if self.recipe.assigned else eps
        level = self.abar[times][:, None, None, None]  # (N, 1, 1, 1)
        wanted = target(self.recipe.predicts, x0, eps, level)
        with torch.autocast("cpu", torch.bfloat16):
            out = network(marginal(x0, eps, level), times - 1)
        each = (out.float() - wanted).square().mean((1, 2, 3))  # (N,)
        if self.recipe.snr:  # arXiv 2303.09556, table 1: min(SNR, γ) of the loss of x_0
            snr = (level / (1 - level)).flatten()
            each = each * (self.recipe.snr / snr).clamp(max=1)
        if self.recipe.times == "history":
            weights = resampling.weights(self.history, times)
            resampling.add(self.history, times, each.detach())
            each = each * weights
        return each.mean()


class Training:
    """A training by a recipe for so many images, a step at a time."""

    def __init__(self, recipe: Recipe, images: Tensor, total: float, o: argparse.Namespace):
        settings = PRESETS["cifar10-laptop"].changed(
            **{"patch": 2, "ch": o.ch, "lr": o.lr, "steps": 10**9, "time": "1h", "seed": recipe.seed, **recipe.network}
        )
        self.recipe, self.images, self.total, self.how = recipe, images, total, settings.optimiser
        self.model = replace(build(settings), predicts=recipe.predicts)
        self.network, self.loss = self.model.network.train(), Loss(recipe, self.model.abar)
        self.adam = torch.optim.Adam(self.network.parameters(), lr=o.lr, fused=True)
        self.streams = {size: order(len(images), size, recipe.seed) for size in recipe.batches}
        steps = sum(total / len(recipe.batches) / size for size in recipe.batches)
        self.averages = {
            k: AveragedModel(self.network, multi_avg_fn=ema(1 - 1 / max(2, share * steps)))
            for k, share in SHARES.items()
        }
        self.step = self.seen = 0

    def size(self) -> int:
        """Images in the next step: each size has an equal part of the images."""
        sizes = self.recipe.batches
        return sizes[min(len(sizes) - 1, int(self.seen / self.total * len(sizes)))]

    def advance(self) -> None:
        """Take a step."""
        self.step += 1
        x0 = to_float(self.images[next(self.streams[self.size()])])  # (N, 3, H, W)
        times, eps, coin = randomness(self.recipe.seed, self.step, tuple(x0.shape), self.model.T)
        x0 = torch.where((coin < 0.5)[:, None, None, None], x0.flip(3), x0)
        for group in self.adam.param_groups:
            group["lr"] = rate(self.how, self.step, min(1, self.seen / self.total))
        self.loss(self.network, self.step, x0, times, eps).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.adam.step()
        self.adam.zero_grad()
        for average in self.averages.values():
            average.update_parameters(self.network)
        self.seen += len(x0)


def speeds(images: Tensor, o: argparse.Namespace, turns: int = 5) -> dict[str, float]:
    """How many times as many images as the base each recipe takes in the same processor time: steps in turns, medians
    of the ratios within each turn."""
    runs = {name: Training(recipe, images, 384, o) for name, recipe in RECIPES.items()}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns + 1):
        for name, run in runs.items():
            run.seen, start = 0, time.process_time()
            while run.seen < 384:  # through all sizes of batches
                run.advance()
            taken[name].append((time.process_time() - start) / run.seen)
    base = taken["the base"]
    return {name: median(b / t for b, t in zip(base[1:], each[1:], strict=True)) for name, each in taken.items()}


def trained(recipe: Recipe, images: Tensor, total: float, o: argparse.Namespace) -> dict[str, Model]:
    """The model after so many images, by the share of the steps that its weights are averaged over."""
    run = Training(recipe, images, total, o)
    while run.seen < total:
        run.advance()
    return {k: replace(run.model, network=a.module.eval()) for k, a in run.averages.items()}


@torch.no_grad()
def errors(model: Model, images: Tensor, levels: int = 8) -> list[float]:
    """The mean squared error of ε at so many noise levels, over all images (N, C, H, W) uint8, with the same noise."""
    eps = torch.randn(images.shape, generator=torch.Generator().manual_seed(7))
    found, x0 = [], to_float(images)
    for k in range(levels):
        t, each = int((k + 0.5) * model.T / levels), []
        for x, e in zip(x0.split(100), eps.split(100), strict=True):
            each.append((model(marginal(x, e, model.abar[t].float()), t).eps - e).square().mean().item())
        found.append(sum(each) / len(each))
    return found


def measured(model: Model, held: Tensor, against: Reference, n: int) -> dict:
    """The errors on held-out images and the FIDs of a model."""
    found = {"errors": errors(model, held)}
    ready = ddim.prepare(replace(model, network=copy.deepcopy(model.network)), "auto")
    for name, steps, how in (("noisy", 50, {"solver": "ddim", "eta": 1.0}), ("unipc", 20, {"solver": "unipc"})):
        images = ddim.data.to_uint8(ddim.sample(ready, n, steps, seed=0, batch_size=100, **how))
        found[name] = metrics.fid(against.statistics, metrics.statistics(against.features, images))
    return found


def fill(o: argparse.Namespace) -> dict:
    """Train and measure each recipe that is not yet; write down each."""
    path = o.out / "recipe.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    parts, against = divided(load(find(o.data, 32, 3)), None, 0.05, 0), None
    o.out.mkdir(parents=True, exist_ok=True)
    if "speeds" not in kept:
        kept["speeds"] = speeds(parts.seen, o)
        write_json(path, kept)
    for name in o.only if o.only is not None else RECIPES:
        if name in kept:
            continue
        total = int(o.images * kept["speeds"][name])
        models = trained(RECIPES[name], parts.seen, total, o)
        against = against or reference(models[USUAL], o.data, n=o.n)
        which = models if name == "the base" else {USUAL: models[USUAL]}
        found = {share: measured(model, parts.held, against, o.n) for share, model in which.items()}
        kept[name] = {"images": total, "n": o.n, "by": found}
        write_json(path, kept)
        print(f"{name}: {json.dumps(kept[name])}", flush=True)
    return {name: kept[name] for name in RECIPES if name in kept}


def table(kept: dict) -> str:
    """A row a recipe, and one for each other length of averaging of the base."""
    rows = []
    for name, cell in kept.items():
        for share, found in cell["by"].items():
            label = name if share == USUAL else f"averaged over {share} of the steps"
            e, fids = found["errors"], [f"{found[how]:.2f}" for how in ("noisy", "unipc")]
            by_level = [f"{sum(e) / len(e):.4f}", f"{e[0]:.4f}", f"{e[-1]:.2g}"]
            rows.append([label, f"{cell['images']:,}", *by_level, *fids])
    heads = ["", "images", "error of ε", "of least noise", "of most", "FID, η = 1", "FID, unipc"]
    return contest.markdown(heads, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="CIFAR-10's training images")
    parser.add_argument("--images", type=float, default=80_000, help="that the base sees (80000)")
    parser.add_argument("--ch", type=int, default=32, help="width of the network (32)")
    parser.add_argument("--lr", type=float, default=1e-3, help="largest learning rate (0.001)")
    parser.add_argument("--n", type=int, default=1000, help="samples for each FID (1000)")
    parser.add_argument("--only", nargs="*", choices=RECIPES, metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("recipe"))
    o = parser.parse_args()
    keep_memory()
    torch.set_flush_denormal(True)
    print(table(fill(o)))


if __name__ == "__main__":
    main()
