"""The one progress bar: on stderr, with rate and time left. rich is imported when a bar is first drawn."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

Item = TypeVar("Item")
QUIET = 30  # seconds between lines where stderr is not a terminal
FIRST = 10  # seconds to the first of them


class Unfailing:
    """A stream that drops what cannot be written: a bar is no reason to end the work."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.stream.flush()


class Pace:
    """How fast steps are lately: over the last ten seconds, and over ten steps where these take longer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock, self.done = clock, 0
        self.marks = deque([(clock(), 0)])

    def stepped(self, n: int = 1) -> None:
        self.done += n
        self.marks.append((self.clock(), self.done))
        while len(self.marks) > 11 and self.marks[-1][0] - self.marks[1][0] > 10:
            self.marks.popleft()

    @property
    def speed(self) -> float:
        """Steps a second; 0 before the first one."""
        (since, before), (now, done) = self.marks[0], self.marks[-1]
        return (done - before) / (now - since) if now > since else 0.0


def clock_of(seconds: float) -> str:
    """A time left, as 0:45, 12:03, 3:25:10, or 71 days."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days"


@contextmanager
def progress(
    what: str, total: int, unit: str = "", done: int = 0, show: bool = True, each: int = 1, percent: bool = False
) -> Iterator[Callable[..., None]]:
    """A bar over `total` steps, of `each` units of the rate that is shown; without a unit, a percentage and no rate:
    steps of images are no number for people. percent: in the place of the steps, also with a unit.

    Yields `advance(n=1, note=None, total=None, left=None)`; a note is shown at the end of the line until there is
    another. total, left: other steps than were thought, and the seconds left, where these are known better than by the
    rate.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    percent = percent or not unit
    fields = [TextColumn(f"{{task.fields[{name}]}}") for name in ("rate", "left", "note")]
    count = "{task.percentage:.0f}%" if percent else "{task.completed:.0f}/{task.total:.0f}"
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn(count), *fields)
    console = Console(file=Unfailing(sys.stderr))
    with Progress(*columns, console=console, refresh_per_second=4, disable=not show) as bars:
        task = bars.add_task(what, total=total, completed=done, rate="", left="", note="")
        pace, due = Pace(), time.monotonic() + FIRST

        def advance(n: int = 1, note: str | None = None, total: int | None = None, left: float | None = None) -> None:
            nonlocal due
            if not show:
                return
            pace.stepped(n)
            state, speed = bars.tasks[task], pace.speed
            total = state.total if total is None else total
            fields = {} if note is None else {"note": note}
            if speed:
                left = (total - state.completed - n) / speed if left is None else left
                rate = f"{speed * each:,.{0 if speed * each >= 10 else 2}f} {unit}/s"
                fields |= {"rate": rate} if unit else {}
                fields["left"] = f"{clock_of(max(0, left))} left"
            bars.update(task, advance=n, total=total, **fields)
            # In a log file there is no bar to redraw: a line now and then says as much.
            if not console.is_terminal and time.monotonic() > due:
                due, f = time.monotonic() + QUIET, state.fields
                line = f"{what} {count.format(task=state)} {f['rate']} {f['left']} {f['note']}"
                print(" ".join(line.split()), file=console.file, flush=True)

        try:
            yield advance
            if bars.tasks[task].finished:
                bars.update(task, left="")
        except BaseException:
            bars.live.transient = True  # the error's own line is what should be left on the screen
            raise


def track(items: Iterable[Item], what: str, total: int, unit: str = "") -> Iterator[Item]:
    """Iterate under a bar."""
    with progress(what, total, unit) as advance:
        for item in items:
            yield item
            advance()
