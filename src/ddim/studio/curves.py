"""The losses of a run as a drawing of lines, which takes the page's own colours."""

import math
from collections.abc import Sequence

from ddim.training.verdict import Measurement

WIDE, HIGH, LEFT, BELOW = 640, 260, 52, 28
POINTS = 300  # of a line


def thinned(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """At most POINTS means of neighbouring points."""
    size = max(1, math.ceil(len(points) / POINTS))
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def ticks(low: float, high: float) -> list[float]:
    """One to six round numbers between, on a scale of powers of ten."""
    found = [
        m * 10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)
    ]
    return [value for value in found if low <= value <= high][-6:]


def losses(points: Sequence[tuple[int, float]], measured: Sequence[Measurement]) -> str:
    """The loss over the steps, and those of held-out and of training images as dots; the scale is of powers of ten."""
    points = [(step, loss) for step, loss in points if loss > 0]
    if not points:
        return ""
    every = [y for _, y in points] + [y for m in measured for y in (m.held_out, m.seen) if y > 0]
    low, high, last = min(every) * 0.9, max(every) * 1.1, max(points[-1][0], 1)

    def at(step: float, loss: float) -> str:
        x = LEFT + (WIDE - LEFT - 8) * step / last
        y = 8 + (HIGH - BELOW - 8) * (1 - math.log(loss / low) / math.log(high / low))
        return f"{x:.1f},{y:.1f}"

    parts = []
    for value in ticks(low, high):
        y = at(0, value).partition(",")[2]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDE - 8}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y}" text-anchor="end" dominant-baseline="middle">{value:g}</text>')
    for share in (0, 0.5, 1):
        x = LEFT + (WIDE - LEFT - 8) * share
        anchor = {0: "start", 0.5: "middle", 1: "end"}[share]
        parts.append(f'<text x="{x:.1f}" y="{HIGH - 6}" text-anchor="{anchor}">{round(last * share):,}</text>')
    parts.append(f'<polyline class="loss" points="{" ".join(at(*point) for point in thinned(points))}"/>')
    for kind in ("held_out", "seen"):
        for m in measured:
            if (value := getattr(m, kind)) > 0:
                x, y = at(m.step, value).split(",")
                parts.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="3.5"/>')
    legend = '<span class="key loss">loss of a step</span>'
    if measured:
        legend += '<span class="key held_out">of held-out images</span><span class="key seen">of training images</span>'
    drawing = f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="the loss over the steps">{"".join(parts)}</svg>'
    return f'<div class="curve">{drawing}<p>{legend}</p></div>'
