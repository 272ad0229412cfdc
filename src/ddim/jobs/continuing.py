"""What a job that was ended says of how to go on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddim.system.processes import watched


@contextmanager
def continuing(out: Path) -> Iterator[None]:
    """Says so where one of its processes was lost, and after a Ctrl-C."""
    hint = f"the same command continues, in {out}"
    with watched(lambda: f"; {hint}"):
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f": what is finished is kept, and {hint}") from None
