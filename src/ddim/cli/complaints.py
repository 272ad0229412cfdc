"""What is wrong with a command line, in one line: what tyro says of it, in the words of the options themselves.

Nothing here imports torch.
"""

import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ddim.errors import did_you_mean, shown

ONE = {int: "a whole number", float: "a number", str: "a text", Path: "a path"}
MANY = {int: "whole numbers", float: "numbers", str: "texts", Path: "paths"}


def complaint_of(text: str, options: type, args: Sequence[str]) -> str:
    """tyro's complaint as one line: it draws a box, with a title, what is wrong, a rule, and a hint.

    options: the dataclass that was to be read from `args`.
    """
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip("│ ").strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not re.fullmatch(r"[-─╭╮╰╯].*[-─╭╮╰╯]|[-─]+", line)]
    said = next((i for i, line in enumerate(lines) if line.startswith(("For full helptext", "Run "))), len(lines))
    titles = {"Missing argument", "Unrecognized options", "Parsing error", "Required options", "Value error"}
    titles |= {"Invalid choice"}
    message = " ".join(line for line in lines[:said] if line not in titles).partition(" Argument helptext:")[0]
    hints = dict(hints_of(options))
    if failed := re.match(r"Error parsing (--[\w-]+)", message):
        return misread(failed[1], hints.get(failed[1]), args)
    if unknown := re.match(r"Unrecognized options: (.*?)(?: Arguments similar to| Perhaps you meant|$)", message):
        return unrecognized(unknown[1].split(", "), list(hints))
    message = re.sub(r"Missing value for argument '(--[\w-]+)'.*", r"\1 needs a value", message)
    return re.sub(r"invalid choice '(.*)' for argument '(.*)'. Expected one of \((.*)\)\.", in_order, message)


def hints_of(options: Any) -> Iterator[tuple[str, Any]]:
    """The options of a dataclass, and of those in it: --name and the type of its value."""
    if is_dataclass(options):
        hints = get_type_hints(options, include_extras=True)
        for field in fields(options):
            if is_dataclass(hint := hints[field.name]):
                yield from hints_of(hint)
            else:
                yield f"--{field.name.replace('_', '-')}", hint


def kinds_of(hint: Any) -> list[Any]:
    """What a value may be, each by itself, without None."""
    if get_origin(hint) is Annotated:
        return kinds_of(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return [kind for part in get_args(hint) for kind in kinds_of(part)]
    return [] if hint is type(None) else [hint]


def misread(option: str, hint: Any, args: Sequence[str]) -> str:
    """What an option takes, and which of its values is none of it."""
    given, kinds = given_to(option, args), kinds_of(hint)
    if len(kinds) == 1 and get_origin(kinds[0]) is tuple:
        parts = get_args(kinds[0])
        if Ellipsis not in parts and len(parts) != len(given):
            names = "".join(f", {extra.metavar}" for extra in getattr(hint, "__metadata__", ()))
            return f"{option} takes {len(parts)} values{names}; got {len(given)}"
        kinds = kinds_of(parts[0])
        words = in_words(kinds, MANY)
    else:
        given, words = given[:1], in_words(kinds, ONE)
    wrong = next((word for word in given if not any(reads(kind, word) for kind in kinds)), " ".join(given))
    return f"{option} takes {words}; got {shown(wrong) if len(wrong) < 58 else repr(wrong[:50] + '…')}"


def given_to(option: str, args: Sequence[str]) -> list[str]:
    """The values that a command line gives an option, the last time that it names it."""
    found: list[str] = []
    own = False
    for word in args:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if own := name.replace("_", "-") == option:
                found = [value] if equals else []
        elif own:
            found.append(word)
    return found


def reads(kind: Any, word: str) -> bool:
    """Whether a word is a value of a kind."""
    if get_origin(kind) is Literal:
        return word in get_args(kind)
    try:
        kind(word)
    except (ValueError, TypeError):
        return False
    return True


def in_words(kinds: Sequence[Any], words: dict[type, str]) -> str:
    """What values are: "a number or hat"."""
    named = [", ".join(map(str, get_args(k))) if get_origin(k) is Literal else words.get(k, "a value") for k in kinds]
    return " or ".join(named)


def unrecognized(words: Sequence[str], known: Sequence[str]) -> str:
    """The options that there are not, without the values given to them, and the nearest to the first."""
    wrong = [word for word in words if re.match(r"--?[A-Za-z]", word)]
    if not wrong:
        return f"more arguments than it takes: {' '.join(words)}"
    meant = did_you_mean(wrong[0].partition("=")[0], known)
    return f"unknown option{'s' if len(wrong) > 1 else ''} {', '.join(wrong)}{meant}"


def in_order(found: re.Match) -> str:
    """tyro's line on a choice that there is not, with the choices in order, and the nearest."""
    given, option, choices = found.groups()
    known = sorted({choice.strip(" '") for choice in choices.split(",")} - {"None", ""})
    return f"unknown {option} {given!r}: choose one of {', '.join(known)}{did_you_mean(given, known)}"
