"""The verbs of the command line, a module each: its options as a dataclass, and `main(args)`."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

import tyro
from tyro.conf import OmitArgPrefixes, arg

from ddim.errors import InputError

Options = TypeVar("Options")
Spacing = Literal["linear", "quadratic", "official-linear", "official-quadratic"]
Eta = Annotated[float | Literal["hat"], arg(metavar="FLOAT|hat")]
Times = Annotated[tuple[int, ...] | None, arg(metavar="INT …")]


def parse(options: type[Options], verb: str, args: Sequence[str], default: Options | None = None) -> Options:
    """The options of a verb from the command line. What is wrong with them becomes an InputError of one line."""
    given = {} if default is None else {"default": default}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(options, prog=f"ddim {verb}", args=list(args), config=(OmitArgPrefixes,), **given)
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
    # tyro draws a box; its first lines, up to the rule, say what is wrong.
    text = re.sub(r"\x1b\[[0-9;]*m", "", complaint.getvalue())
    lines = [line.strip("│ ").strip() for line in text.splitlines() if line.startswith("│")]
    told = next((i for i, line in enumerate(lines) if line.startswith("──")), len(lines))
    raise InputError(f"{' '.join(lines[:told])} (see ddim {verb} --help)")
