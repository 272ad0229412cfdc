"""Curves, by matplotlib."""

import json
import math
from pathlib import Path

import numpy as np

from ddim.system.files import replacing


def entry(line: str) -> dict | None:
    """A line of a run's log.jsonl, with a whole `step` and a number `loss`; None where it holds anything else."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(found, dict) and type(found.get("step")) is int and type(found.get("loss")) in (int, float)
    return found if whole and math.isfinite(found["loss"]) else None


def loss_curve(log: Path, path: Path) -> Path:
    """The loss over the steps, from a run's log.jsonl: each line faint, their running mean strong."""
    from matplotlib.figure import Figure

    lines = [found for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if (found := entry(line))]
    if not lines:
        return path
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
