"""The one progress bar: on stderr, with rate and time left. rich is imported when a bar is first drawn."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


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
    with Progress(
        *columns, console=Console(stderr=True), refresh_per_second=4, speed_estimate_period=10, disable=not show
    ) as bars:
        task = bars.add_task(what, total=total, completed=done, rate="", note="")

        def advance(n: int = 1, note: str | None = None) -> None:
            speed = bars.tasks[task].speed
            rate = f"{speed * each:,.{0 if speed * each >= 10 else 2}f} {unit}/s" if speed else ""
            bars.update(task, advance=n, rate=rate, **({} if note is None else {"note": note}))

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
