"""The progress of a job, for whoever looks on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from ddim.system.progress import progress as progress_bar

Progress = bool | Callable[[str, int, int], object]  # a bar or none; or (what is done, how much of it, of how much)


def bar(what: str, total: int, show: Progress):
    """The progress of a job, `advance(n)`: as a bar where that is wanted and there is work; a function gets it
    as numbers instead, and ends the job by what it raises.
    """
    if callable(show):
        return reported(what, total, show)
    return progress_bar(what, total) if show and total else nullcontext(lambda n=1, note=None: None)


@contextmanager
def reported(what: str, total: int, show: Callable[[str, int, int], object]) -> Iterator[Callable[..., None]]:
    done = 0

    def advance(n: int = 1, note: str | None = None) -> None:
        nonlocal done
        done += n
        show(note or what, done, total)

    yield advance
