"""What time and memory grow with: one table a question, ready for docs/performance.md.

    python bench/scaling.py steps          time over the number of steps: a straight line
    python bench/scaling.py batch          time and memory over the batch
    python bench/scaling.py size           time and memory over the size of the images, for the presets' networks
    python bench/scaling.py processes      one process of all threads, or more of fewer
    python bench/scaling.py memory         memory over the number of steps: flat

Every row is measured in a process of its own, and they take turns.
"""

import os
import sys
from argparse import Namespace
from functools import partial
from statistics import median

import contest
import networks
import rates
from contest import Contender, Process, hold
from player import Player

Table = tuple[tuple[str, ...], list[tuple[str, ...]], list[str]]  # header, rows, and what else there is to say
PRESETS = ("cifar10", "celeba", "stl10", "bedroom")  # images of 32, 64, 96 and 256


def sampler(o: Namespace, model: str, images: int, steps: int) -> Player:
    """A turn samples."""
    import ddim

    loaded = networks.as_sampled(ddim.load(model, o.device), o.dtype)
    return Player(lambda: ddim.sample(loaded, n=images, steps=steps, batch_size=images, solver="ddim"), device=o.device)


def evaluator(o: Namespace, name: str, batch: int, repeat: int = 1) -> Player:
    """A turn evaluates a preset's network, random weights, `repeat` times."""
    import torch

    preset = networks.preset(o, name)
    network = networks.as_sampled(networks.build(preset).to(o.device), o.dtype).network
    x = torch.randn(batch, 3, preset.data.size, preset.data.size, device=o.device).to(
        getattr(torch, o.dtype)
    )  # (N, 3, H, W)
    index = torch.full((batch,), 500, device=o.device)
    return Player(torch.no_grad()(lambda: network(x, index) is None), device=o.device, repeat=repeat)


def team(processes: int, threads: int, folder: str) -> Player:
    """A turn is over when each of the processes has taken its own."""
    members = [Process(f"one of {processes}", folder, threads) for _ in range(processes)]
    for member in members:
        member.answer()  # ready

    def turn() -> dict:
        for member in members:
            member.go()
        return {"peak": sum(member.answer()["peak"] for member in members)}

    return Player(turn)


def steps(o: Namespace) -> Table:
    numbers = o.at or [10, 20, 50, 100, 200]
    points = [(m, s) for m in o.model for s in numbers]
    found = hold([Contender(f"{m}, S = {s}", partial(sampler, o, m, o.images, s), True) for m, s in points], o)
    rows, said = [], []
    for k, m in enumerate(o.model):
        own = [1000 * median(c.seconds) / o.images for c in found[k * len(numbers) :][: len(numbers)]]
        rows += [(m, str(s), f"{ms:.2f}", f"{ms / s:.4f}") for s, ms in zip(numbers, own, strict=True)]
        a, b, r2 = line(numbers, own)
        said.append(f"{m}: {a:.3f} ms + {b:.4f} ms × S an image, R² = {r2:.5f}")
    return ("model", "S", "ms an image", "ms an image and step"), rows, said


def line(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """(a, b, R²) of the least-squares line y = a + b x."""
    import numpy as np

    b, a = np.polyfit(x, y, 1)
    return a, b, 1 - np.var(np.array(y) - a - b * np.array(x)) / np.var(y)


def batch(o: Namespace) -> Table:
    numbers = o.at or [1, 4, 16, 64]
    most = max(numbers)  # images a turn, so that all turns are about as long
    found = hold([Contender(str(n), partial(evaluator, o, "cifar10", n, most // n), True) for n in numbers], o)
    work = rates.flop(networks.preset(o, "cifar10"))
    return growth("batch", found, [most // n * n for n in numbers], [work] * len(found))


def size(o: Namespace) -> Table:
    found = hold([Contender(name, partial(evaluator, o, name, 1), True) for name in PRESETS], o)
    presets = [networks.preset(o, c.name) for c in found]
    for c, preset in zip(found, presets, strict=True):
        c.name = f"{preset.data.size}×{preset.data.size}, {c.name}"
    return growth("images", found, [1] * len(found), list(map(rates.flop, presets)))


def growth(what: str, found: list[Contender], images: list[int], flop: list[int]) -> Table:
    """Time and memory of network evaluations: `images` a turn, `flop` an image."""
    rows = []
    for c, n, work in zip(found, images, flop, strict=True):
        own, mib = median(c.seconds) / n, f"{c.peak / 2**20:.0f}"
        rows.append((c.name, f"{work / 1e9:.1f}", f"{1000 * own:.1f}", f"{work / own / 1e9:.0f}", mib))
    return (what, "GFLOP an image", "ms an image", "GFLOP/s", "peak MiB"), rows, []


def processes(o: Namespace) -> Table:
    threads = o.threads or os.cpu_count()
    counts = o.at or [k for k in range(1, threads + 1) if threads % k == 0]
    found = [Contender(f"{k} × {threads // k}", partial(team, k, threads // k, str(o.folder))) for k in counts]
    if o.play:  # then this may be a member of a team
        share = [(k, partial(sampler, o, o.model[0], o.images // k, 50)) for k in counts]
        found += [Contender(f"one of {k}", prepare, ours=True) for k, prepare in share]
    found = hold(found, o)
    rows = []
    for c in found:
        numbers = f"{median(c.seconds):.2f}", f"{contest.ratio(found[0], c):.2f}", f"{c.tell('peak') / 2**20:.0f}"
        rows.append((c.name, *numbers))
    said = [f"{o.model[0]}: {o.images} images in 50 steps; starting the processes is left out"]
    return ("processes × threads", "seconds", "times as fast", "peak MiB, all"), rows, said


def memory(o: Namespace) -> Table:
    o.turns = 0  # the warm-up tells
    numbers = o.at or [10, 100, 1000]
    found = hold([Contender(str(s), partial(sampler, o, o.model[0], o.images, s), True) for s in numbers], o)
    said = [f"{o.model[0]}: {o.images} images at once; `batch` tells the memory over the batch"]
    return ("S", "peak MiB"), [(c.name, f"{c.peak / 2**20:.1f}") for c in found], said


TABLES = {f.__name__: f for f in (steps, batch, size, processes, memory)}


def main() -> None:
    parser = contest.parser(__doc__)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--model", nargs="+", default=["digits"], help="to sample from (digits)")
    parser.add_argument("--images", type=int, default=64, help="sampled at once (64)")
    parser.add_argument("--at", type=int, nargs="+", help="numbers of steps, batch sizes or processes, instead")
    parser.add_argument("--dtype", default="bfloat16", help="of the networks of batch and size (bfloat16)")
    parser.add_argument("--ch", type=int, help="width of the networks of batch and size, instead of the paper's")
    o = parser.parse_args()
    header, rows, said = TABLES[o.table](o)
    print(f"`python bench/{' '.join(['scaling.py', *sys.argv[1:]])}`\n\n{contest.markdown(header, rows)}\n")
    told = [f"{o.threads} threads" if o.threads else "", f"medians of {o.turns} turns" if o.turns else ""]
    print("\n".join(filter(None, [*said, *told])))


if __name__ == "__main__":
    main()
