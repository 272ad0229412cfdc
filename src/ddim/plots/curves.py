"""Curves, by matplotlib."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddim.system.files import replacing


def loss_curve(log: Path, path: Path) -> Path:
    """The loss over the steps, from a run's log.jsonl: each line faint, their running mean strong."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps, losses = np.array([line["step"] for line in lines]), np.array([line["loss"] for line in lines])
    span = max(1, len(losses) // 50)
    total = np.cumsum(np.insert(losses, 0, 0.0))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, color="tab:blue", alpha=0.3, linewidth=0.8, marker="o" if len(steps) < 20 else "")
    axes.plot(steps[span - 1 :], (total[span:] - total[:-span]) / span, color="tab:blue")
    axes.set(xlabel="step", ylabel="loss (mean squared error of ε)")
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
    axes.set(xlabel="steps of gradient descent", ylabel="distance to the many-step end, held out", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")
    with replacing(path) as part:
        figure.savefig(part, dpi=120)
    return path
