"""Messages to the user, each one line, on outputs that never fail for their encoding."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

NARROWEST = 40  # columns; tables and help become unreadable, and slow, in fewer


def one_line(text: object) -> str:
    """Text without line ends and escape codes, which would make it several lines, or hide it."""
    plain = str(text).replace("\t", " ")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)


def counted(n: int, what: str) -> str:
    """A number of things in words: "1 image", "2 images"."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def say(*lines: object) -> None:
    """Lines on stdout: results."""
    for line in lines:
        print(one_line(line), flush=True)


def warn(text: object) -> None:
    """A line on stderr. Where stderr cannot be written, there is nobody to tell."""
    with contextlib.suppress(OSError, ValueError):
        print(f"ddim: {one_line(text)}", file=sys.stderr, flush=True)


def prepare_outputs() -> None:
    """Let stdout and stderr replace what their encoding does not have, stand for closed ones, and be wide enough."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started the process
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if (columns := os.environ.get("COLUMNS", "")).isdecimal() and int(columns) < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)


class Lines(logging.Handler):
    """Shows what is logged by `warn`."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


@contextlib.contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Show the warnings of libraries, as those of Pillow and tarfile, and what they and we log, by `warn`."""
    log, lines = logging.getLogger(), Lines(logging.WARNING)
    log.addHandler(lines)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *where, **how: warn(message)
            yield
    finally:
        log.removeHandler(lines)


def flush_output() -> None:
    """Write what stdout still holds, or drop what cannot be written: the interpreter would complain at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
