"""The one progress bar: on stderr, with rate and time left. rich is imported when a bar is first drawn."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

Item = TypeVar("Item")
QUIET = 30  # seconds between lines where stderr is not a terminal


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


@contextmanager
def progress(
    what: str, total: int, unit: str = "step", done: int = 0, show: bool = True, each: int = 1
) -> Iterator[Callable[..., None]]:
    """A bar over `total` steps, of `each` units of the rate that is shown.

    Yields `advance(n=1, note=None)`; a note is shown at the end of the line until there is another.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(file=Unfailing(sys.stderr))
    with Progress(*columns, console=console, refresh_per_second=4, speed_estimate_period=10, disable=not show) as bars:
        task = bars.add_task(what, total=total, completed=done, rate="", note="")

        printed = time.monotonic()

        def advance(n: int = 1, note: str | None = None) -> None:
            nonlocal printed
            speed = bars.tasks[task].speed
            rate = f"{speed * each:,.{0 if speed * each >= 10 else 2}f} {unit}/s" if speed else ""
            bars.update(task, advance=n, rate=rate, **({} if note is None else {"note": note}))
            # In a log file there is no bar to redraw: a line now and then says as much.
            if show and not console.is_terminal and time.monotonic() - printed > QUIET:
                printed, state = time.monotonic(), bars.tasks[task]
                left = f"{state.time_remaining:.0f} s left" if state.time_remaining is not None else ""
                print(f"{what} {state.completed:.0f}/{state.total:.0f} {rate} {left}", file=console.file, flush=True)

        try:
            yield advance
        except BaseException:
            bars.live.transient = True  # the error's own line is what should be left on the screen
            raise


def track(items: Iterable[Item], what: str, total: int, unit: str = "step") -> Iterator[Item]:
    """Iterate under a bar."""
    with progress(what, total, unit) as advance:
        for item in items:
            yield item
            advance()
