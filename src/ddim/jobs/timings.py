"""The seconds that each batch of a job took, a line each, so that a continued job knows its speed too."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from ddim.system.files import appending


def note(path: Path, indices: range, seconds: float) -> None:
    """Add a line to a log of batches."""
    with appending(path) as file:
        file.write(json.dumps({"images": [indices.start, indices.stop], "seconds": round(seconds, 4)}) + "\n")


def seconds_an_image(logs: Sequence[Path]) -> float | None:
    """The mean over the logged batches; lines that a kill cut short, or that hold anything else, are left out."""
    total, count = 0.0, 0
    for line in "".join(log.read_text(encoding="utf-8", errors="replace") for log in logs).splitlines():
        try:
            entry = json.loads(line)
            seconds, (start, stop) = float(entry["seconds"]), map(int, entry["images"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            continue
        if math.isfinite(seconds) and seconds >= 0 and stop > start >= 0:
            total, count = total + seconds, count + stop - start
    return total / count if count else None
