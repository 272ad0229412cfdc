"""The command line, and the lines of Python, that give exactly what the studio shows. Tests run both."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What is left out where it has this value: it is the default of the command and of the function.
DEFAULTS = {"eta": 0.0, "variance": "small", "guidance": 1.0, "seed": 0}


@dataclass(frozen=True)
class Recipe:
    """A command, or several, and a program."""

    command: str
    python: str


@dataclass(frozen=True)
class Origin:
    """The model, as it is named and run."""

    name: str
    precision: str = "auto"
    device: str | None = None

    def python(self, *imports: str) -> str:
        """The lines that load it."""
        place = "" if self.device is None else f", {literal(self.device)}"
        kind = "" if self.precision == "auto" else f", {literal(self.precision)}"
        lines = [*imports, "import ddim", "", f"model = ddim.prepare(ddim.load({literal(self.name)}{place}){kind})"]
        return "\n".join(lines) + "\n"

    def command(self, verb: str, *words: object, exact: bool = False, **options: Any) -> str:
        """A line of the terminal. exact: the verb runs in fp32 by default, and the others in `auto`."""
        usual = "fp32" if exact else "auto"
        options |= {"device": self.device, "precision": None if self.precision == usual else self.precision}
        return " ".join(["ddim", verb, *map(quoted, (self.name, *words)), *flags(options)])


def quoted(word: object) -> str:
    return shlex.quote(str(word))


def said(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not what is taken without a word."""
    return {name: value for name, value in values.items() if value is not None and value != DEFAULTS.get(name)}


def flags(values: Mapping[str, Any]) -> list[str]:
    """Options of the command line."""
    words = []
    for name, value in said(values).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += [option, *(f"{v:g}" if isinstance(v, float) else quoted(v) for v in value)]
        else:
            words += [option, f"{value:g}" if isinstance(value, float) else quoted(value)]
    return words


def arguments(values: Mapping[str, Any]) -> str:
    """Arguments of a call in Python, after others."""
    return "".join(f", {name}={literal(value)}" for name, value in said(values).items())


def literal(value: Any) -> str:
    """A value as Python has it, texts in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
