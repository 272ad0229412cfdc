"""The time of a run: how much of it is used, how far the learning rate has fallen by it, and when it ends."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ddim.errors import InputError, shown

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
LEAST = 20  # seconds; in less, nothing is trained
MOST = 366 * 86400

Clock = Callable[[], float]


def seconds_of(text: str) -> float:
    """A time such as 90s, 45m, 2h, 1h30m or 1.5d in seconds; 0 for an empty one. Raises InputError."""
    if not isinstance(text, str):
        raise InputError(f'time is a text such as "90s", "45m" or "2h"; got {shown(text)}')
    if not text:
        return 0.0
    found = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text.strip().lower())
    if not found or "".join(number + unit for number, unit in found) != text.strip().lower():
        raise InputError(f"--time takes a time such as 90s, 45m, 2h, 1h30m or 1d; got {text!r}")
    total = sum(float(number) * UNITS[unit] for number, unit in found)
    if not LEAST <= total <= MOST:
        raise InputError(f"--time must be from {LEAST}s to {MOST // UNITS['d']}d; got {text}")
    return total


def in_words(seconds: float) -> str:
    """A time as people say it, to two units: 45 s, 3 min 20 s, 2 h 5 min, 71 days."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    names = (("day", 86400), ("h", 3600), ("min", 60), ("s", 1))
    whole = round(seconds / 60) * 60 if seconds >= 3600 else round(seconds)
    parts = []
    for name, unit in names:
        count, whole = divmod(whole, unit)
        if count or parts:
            parts.append(f"{count:.0f} {name}{'s' if name == 'day' and count > 1 else ''}" if count else "")
    return " ".join(part for part in parts[:2] if part) if seconds < 20 * 86400 else parts[0]


@dataclass
class Watch:
    """budget: the seconds that a run has in all; 0 where it ends by its steps.  before: those used when the watch was
    started.  reserve: those that its end takes, when all that is due then is done.
    """

    budget: float
    before: float = 0.0
    reserve: float = 0.0
    clock: Clock = time.monotonic
    step: float = 0.0  # seconds of a step, lately
    started: float = field(init=False)
    last: float = field(init=False)

    def __post_init__(self):
        self.started = self.last = self.clock()

    def restart(self, before: float, reserve: float) -> None:
        """Go on from what a state says: what came since the start of the process is no part of the run."""
        self.before, self.reserve = before, reserve
        self.started = self.last = self.clock()

    def used(self) -> float:
        """The seconds used."""
        return self.before + self.clock() - self.started

    def stepped(self) -> None:
        """A step has been taken since the last call, or the last `resumed`."""
        now = self.clock()
        self.step, self.last = max(now - self.last, 0.8 * self.step), now

    def resumed(self) -> None:
        """What was done since the last step was no step."""
        self.last = self.clock()

    def course(self) -> float:
        """How far the run is, from 0 to 1: by this the learning rate falls."""
        return min(1.0, self.used() / max(self.budget - self.reserve, 1e-9)) if self.budget else 0.0

    def over(self) -> bool:
        """Whether one more step, and what is due at the end, would take longer than the run has."""
        return bool(self.budget) and self.used() + self.step / 2 + self.reserve >= self.budget


@dataclass
class Timer:
    """What is due every so many minutes, and first after fewer."""

    minutes: float
    first: float
    clock: Clock
    next: float = field(init=False)

    def __post_init__(self):
        self.next = self.clock() + 60 * min(self.first, self.minutes) if self.minutes else float("inf")

    def due(self) -> bool:
        return self.clock() >= self.next

    def done(self) -> None:
        self.next = self.clock() + 60 * self.minutes if self.minutes else float("inf")
