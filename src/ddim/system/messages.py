"""Messages to the user, each one line, on an output that never fails for its encoding."""

import sys


def one_line(text: str) -> str:
    """Text without line ends and escape codes, which would make it several lines, or hide it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text.replace("\t", " "))


def warn(text: str) -> None:
    """A line on stderr."""
    print(f"ddim: {one_line(text)}", file=sys.stderr, flush=True)


def forgiving(*streams) -> None:
    """Let streams replace what their encoding does not have, instead of failing on it."""
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
