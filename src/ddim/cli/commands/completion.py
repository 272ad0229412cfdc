"""ddim completion: what lets a shell complete verbs and options."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from typing import Literal

from tyro.conf import Positional

from ddim.cli.options import parse

EXAMPLES = (
    "ddim completion bash                                 # > ~/.ddim-completion; in ~/.bashrc: . ~/.ddim-completion",
    "ddim completion fish                                 # > ~/.config/fish/completions/ddim.fish",
)


@dataclass(frozen=True)
class Completion:
    """The shell has to read it once; the examples say where to put it."""

    shell: Positional[Literal["bash", "zsh", "fish"]]
    """The shell."""


def main(args: Sequence[str]) -> None:
    print(script(parse(Completion, "completion", args).shell))


def script(shell: str) -> str:
    """The script for a shell, which tyro makes of the options of every verb."""
    from tyro.conf import OmitArgPrefixes
    from tyro.extras import subcommand_cli_from_dict

    from ddim.cli.main import VERBS

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):  # tyro prints it, and ends
        kinds = {verb: options_of(verb) for verb in VERBS}
        args = ["--tyro-print-completion", shell]
        subcommand_cli_from_dict(kinds, prog="ddim", args=args, config=(OmitArgPrefixes,))
    return printed.getvalue().rstrip()


def options_of(verb: str) -> type:
    """The dataclass of a verb's options: of its module, the one with its name."""
    found = vars(import_module(f"ddim.cli.commands.{verb}"))
    return next(kind for name, kind in found.items() if name.lower() == verb and is_dataclass(kind))
