"""What an adaptive walk took for each image, kept in a file: a line an image, of evaluations and estimated error."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddim.diffusion.solvers.adaptive import Progress
from ddim.system.files import appending


def keep(file: Path, indices: Sequence[int], state: Any) -> None:
    """Add the lines of images whose walk ended in `state`; nothing where the walk was not adaptive."""
    if not isinstance(state, Progress):
        return
    with appending(file) as lines:
        for k, evaluations, estimate in zip(indices, state.evaluations.tolist(), state.estimate.tolist(), strict=True):
            lines.write(json.dumps({"image": k, "evaluations": evaluations, "estimate": estimate}) + "\n")


def summary(file: Path, n: int) -> str | None:
    """A line about images 0 … n−1; None where there is no file."""
    if not file.exists():
        return None
    found = {}  # the last line of an image counts: a batch may have been made twice
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            found[entry["image"]] = entry["evaluations"], entry["estimate"]
        except (ValueError, KeyError, TypeError):
            continue  # cut short by a kill; its batch was made again
    kept = [found[k] for k in range(n) if k in found]
    if not kept:
        return None
    counts, errors = zip(*kept, strict=True)
    return (
        f"{min(counts)} to {max(counts)} evaluations an image, {sum(counts) / len(counts):.1f} on average; the "
        f"estimated errors of an image's steps add up to between {min(errors):.2g} and {max(errors):.2g}: {file}"
    )
