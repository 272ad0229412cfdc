"""ddim tune: the fewest steps for one model."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddim.cli.options import ModelName, parse
from ddim.errors import InputError
from ddim.system.messages import say

EXAMPLES = (
    "ddim tune runs/mine --steps 5 6                      # then: ddim sample runs/mine --solver tuned --steps 5",
    "ddim tune cifar10 --time 10m --out mine              # a copy of the bundled model, with its solvers",
)
UNITS = {"s": 1, "m": 60, "h": 3600, "": 1}


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Learned are the times to visit, and what to make of the network's answers. The solvers lie in solvers.json beside
    the model; those of other numbers of steps stay. After Ctrl-C what is finished is kept.
    """

    model: ModelName
    """A run or model folder, a bundled name, or a Hub id."""
    steps: tuple[int, ...] = (4, 5, 6, 8)
    """Numbers of steps to tune for, a solver each."""
    time: str | None = None
    """About how long it may take in all, such as 10m; by default 100 steps of gradient descent for each solver."""
    aim: int | None = None
    """How many steps of unipc lead to the images that are learned from; by default 10, or as many as the most of
    --steps. A network that was trained for days may gain from more, such as 40."""
    pairs: int = 320
    """How many starting noises to learn from."""
    seed: int = 2020
    """Seed of the noises. Measure with another seed."""
    out: Path | None = None
    """The model folder to write into, made where there is none; by default the model's own, or tuned/ with its name for
    a model that is not a folder of yours."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps…; by default a GPU where there is one."""
    batch_size: int | None = None
    """Images at a time, in the walks that it learns from; by default what fits in memory."""


def main(args: Sequence[str]) -> None:
    o = parse(Tune, "tune", args)
    seconds = seconds_of(o.time)
    from ddim.evaluation.tuning import check, folder_for, tune

    model, out = folder_for(o.model, o.out, o.device)
    check(model, o.steps, o.pairs, o.seed, seconds=seconds, aim=o.aim)
    say(f"{o.model}: on {model.device.type} in float32; the solvers go to {out / 'solvers.json'}")

    def report(S: int, solver) -> None:
        curve, kept = solver.about["held_out"], solver.about["kept"]
        before, after = curve[0], next(row for row in curve if row[0] == kept)
        how = f"{solver.base.name} on {solver.about['start']}, then {kept} steps of descent"
        gain = f"distance {before[1]:.3f} → {after[1]:.3f}, pixels {before[2]:.3f} → {after[2]:.3f}"
        say(f"{S} steps: {how}; held out: {gain}")

    tune(
        model, o.steps, out, seconds, o.pairs, o.seed, batch_size=o.batch_size, progress=True, report=report, aim=o.aim
    )
    say(
        f"curves: {out / 'solvers.png'}",
        f"use: ddim sample {shlex.quote(str(out))} --solver tuned --steps {o.steps[0]}",
    )


def seconds_of(text: str | None) -> float | None:
    """A time as 90s, 10m or 1.5h, in seconds. Raises InputError."""
    if text is None:
        return None
    if not (found := re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([smh]?)", text)) or float(found[1]) == 0:
        raise InputError(f"--time must be as 90s, 10m or 1.5h; got {text!r:.40}")
    return float(found[1]) * UNITS[found[2]]
