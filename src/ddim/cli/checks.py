"""What a single option must be, whatever the verb. Nothing here imports torch."""

import math
from collections.abc import Sequence
from itertools import pairwise

from ddim.errors import InputError


def check_empty(args: Sequence[str]) -> None:
    """Raise InputError for an empty name, which would mean the present folder: of --out, or of what has no option."""
    for word, following in pairwise(["", *args]):
        if following == "--out=" or (following == "" and word == "--out"):
            raise InputError("--out is empty: give it a name")
        if following == "" and not word.startswith("--"):
            raise InputError("an argument is empty: give it a name")


def check_number(name: str, number: float, low: float, high: float) -> None:
    if isinstance(number, float) and not math.isfinite(number):
        raise InputError(f"{name} must be a finite number; got {number}")
    if number < low:
        raise InputError(f"{name} must be at least {low}; got {number}")
    if number > high:
        raise InputError(f"{name} must be at most {high}; got {number}")


def check_fall(times: Sequence[float]) -> None:
    """Raise InputError unless there are two times or more, each below the one before."""
    if len(times) < 2:
        raise InputError(f"--times needs at least two values, a start and an end; got {len(times)}")
    for t, s in pairwise(times):
        if t <= s:
            raise InputError(f"--times must fall; got {t:g} followed by {s:g}")


def check_tuned(options: object, args: Sequence[str]) -> None:
    """Raise InputError for an option beside --solver tuned, which has its own times."""
    given = {word.split("=")[0] for word in args} & {"--spacing", "--times", "--afs"}
    if getattr(options, "solver", None) == "tuned" and given:
        raise InputError(f"--solver tuned has its own times: leave out {min(given)}")
