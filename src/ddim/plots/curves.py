"""Curves, by matplotlib."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddim.system.files import replacing
from ddim.system.json import checked

HELD_OUT = {"held_out": float, "seen": float, "held_out_by_level": tuple[float, ...], "n": int}
KINDS = {"step": int, "loss": float, "samples": dict, **HELD_OUT}


def entry(line: str) -> dict | None:
    """A line of a run's log.jsonl: a `step`, and a `loss`, or what was measured of held-out images or of samples; None
    where it holds anything else, as one that a kill cut short.
    """
    try:
        found = json.loads(line)
        checked(found, KINDS)
        some = {"loss", "samples"} & found.keys() or HELD_OUT.keys() <= found.keys()
        return found if "step" in found and some else None
    except (ValueError, RecursionError, AttributeError, TypeError):
        return None


def loss_curve(log: Path, path: Path) -> Path:
    """The loss over the steps, from a run's log.jsonl: each line faint, their running mean strong; and, where there are
    any, the losses of the averaged network on held-out images, and on training images, as dots."""
    from matplotlib.figure import Figure

    text = log.read_text(encoding="utf-8", errors="replace")
    every = [found for line in text.splitlines() if (found := entry(line))]
    lines, measured = [line for line in every if "loss" in line], [line for line in every if "held_out" in line]
    if not lines:
        return path
    steps, losses = np.array([line["step"] for line in lines]), np.array([line["loss"] for line in lines])
    span = max(1, len(losses) // 50)
    total = np.cumsum(np.insert(losses, 0, 0.0))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, color="tab:blue", alpha=0.3, linewidth=0.8, marker="o" if len(steps) < 20 else "")
    axes.plot(steps[span - 1 :], (total[span:] - total[:-span]) / span, color="tab:blue")
    for name, colour in (("held_out", "tab:red"), ("seen", "black")) if measured else ():
        at, values = [line["step"] for line in measured], [line[name] for line in measured]
        axes.plot(at, values, ".-", color=colour, linewidth=0.8, label=name.replace("_", "-"))
        axes.legend()
    axes.set(xlabel="step", ylabel="loss (mean squared error)")
    if losses.max() > 3 * losses.min() > 0:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    with replacing(path) as part:
        figure.savefig(part, dpi=120)
    return path


def tuning_curves(solvers: Mapping[int, Any], path: Path) -> Path:
    """The held-out distance over the steps of descent, a curve for each number of steps of a tuned solver."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for S, solver in sorted(solvers.items()):
        if not (curve := solver.about.get("held_out")):
            continue
        steps, far = ([row[i] for row in curve] for i in (0, 1))
        start = f"{solver.base.name} on {solver.about.get('start')}"
        axes.plot(steps, far, marker="o", markersize=3, label=f"S = {S}, from {start}")
    axes.set(xlabel="steps of gradient descent", ylabel="distance to the aim, held out", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")
    with replacing(path) as part:
        figure.savefig(part, dpi=120)
    return path
