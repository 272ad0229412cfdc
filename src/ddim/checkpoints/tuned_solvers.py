"""`solvers.json`: what a model was tuned for, beside its weights and tied to them by their fingerprint."""

import json
import re
from pathlib import Path
from typing import Any

from ddim.diffusion.schedule import check_times
from ddim.diffusion.solvers.tuned import BASES, MEMORY, Tuned, Tuning
from ddim.errors import InputError, choose
from ddim.system.files import folder, replacing
from ddim.system.json import checked, read_json

SOLVERS = "solvers.json"
NUMBERS = tuple[float, ...]
KINDS = {"base": str, "times": NUMBERS, "asked": NUMBERS, "x": NUMBERS, "x0": tuple[tuple, ...]}


def read(path: Path, T: int) -> Tuning:
    """The solvers of a file, for a model of T noise levels. Raises InputError, which names the file."""
    content = read_json(path)
    try:
        record = checked(content, {"model": str, "solvers": dict})
        if set(record) != {"model", "solvers"}:
            raise InputError("lacks its model, or its solvers")
        return Tuning(record["model"], dict(solver_of(name, numbers, T) for name, numbers in record["solvers"].items()))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def solver_of(name: str, record: Any, T: int) -> tuple[int, Tuned]:
    """A number of steps and its solver, from a record. Raises InputError."""
    if not isinstance(record, dict) or not name.isdecimal():
        raise InputError(f"{name!r:.40} is not a number of steps with its solver")
    S, rows = int(name), record.get("x0")
    rows = [tuple(row) if isinstance(row, list) else row for row in rows] if isinstance(rows, list) else rows
    found = checked(record | {"x0": rows}, KINDS)
    if lacks := sorted(KINDS.keys() - found.keys()):
        raise InputError(f"{name} steps: lacks {', '.join(lacks)}")
    for row in found["x0"]:
        checked({"x0": row}, {"x0": (tuple[(float,) * MEMORY])})
    times = tuple(check_times(T, found["times"]))
    if times[-1] != 0 or {len(times) - 1, *(len(found[key]) for key in ("asked", "x", "x0"))} != {S}:
        raise InputError(f"{name} steps: needs {S + 1} times down to 0, and {S} of asked, x and x0")
    if not all(0 <= t <= T for t in found["asked"]):
        raise InputError(f"{name} steps: asked must lie in 0..{T}")
    about = {key: value for key, value in record.items() if key not in KINDS}
    base = choose("base", found["base"], BASES)
    return S, Tuned(times=times, asked=found["asked"], x=found["x"], x0=found["x0"], base=base, about=about)


def record_of(tuning: Tuning) -> dict[str, Any]:
    """What the file holds."""
    kept = {
        str(S): {
            **{"base": solver.base.name, "times": list(solver.times), "asked": list(solver.asked)},
            **{"x": list(solver.x), "x0": [list(row) for row in solver.x0], **solver.about},
        }
        for S, solver in sorted(tuning.solvers.items())
    }
    return {"model": tuning.model, "solvers": kept}


def write(tuning: Tuning, to: Path) -> Path:
    """Write solvers.json into a folder, a line each list of numbers. Returns its place. Raises InputError."""
    path = folder(to) / SOLVERS
    text = json.dumps(record_of(tuning), indent=1, ensure_ascii=False)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda found: f"[{' '.join(found[0][1:-1].split())}]", text)
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return path
