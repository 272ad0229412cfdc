"""The one exception that means "the request was wrong", as opposed to "the program is"."""

from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral
from typing import Any


class InputError(ValueError):
    """What was asked cannot be done. The message is one line that names the thing and the remedy."""


def choose(kind: str, name: str, table: dict):
    """`table[name]`, or an InputError that lists what there is."""
    if not isinstance(name, str):
        raise InputError(f"the {kind} is a name, one of {', '.join(table)}; got {shown(name)}")
    if name not in table:
        raise InputError(f"unknown {kind} {name!r}: choose one of {', '.join(table)}{did_you_mean(name, table)}")
    return table[name]


def did_you_mean(name: str, known: Iterable[str], alike: float = 0.6) -> str:
    """The end of a line on an unknown name: the nearest known one, if any is so much alike, from 0 to 1."""
    known = list(known)
    near = [one for one in known if one.startswith(name)][:1] or get_close_matches(name, known, 1, alike)
    return f"; did you mean {near[0]}?" if near else ""


LARGEST = 10**9  # of any count


def check_whole(name: str, value: int, least: float = 1) -> None:
    """Raise InputError unless a value is a whole number, from `least` to LARGEST."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name} must be a whole number; got {shown(value)}")
    if value < least:
        raise InputError(f"{name} must be at least {least}; got {value}")
    if value > LARGEST:
        raise InputError(f"{name} must be at most {LARGEST}; got {value if value < 10**30 else 'more'}")


def listed(name: str, values: Iterable) -> list:
    """The values as a list, or an InputError where there is but one, or a text."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(f"{name} must be a list; got {shown(values)}")
    return list(values)


def shown(value: Any) -> str:
    """A value in an error's line: as Python writes it where that is short, else its type."""
    plain = value is None or isinstance(value, str | int | float)
    return text if plain and len(text := repr(value)) < 60 else type(value).__name__
