"""The one exception that means "the request was wrong", as opposed to "the program is"."""

from difflib import get_close_matches


class InputError(ValueError):
    """What was asked cannot be done. The message is one line that names the thing and the remedy."""


def choose(kind: str, name: str, table: dict):
    """`table[name]`, or an InputError that lists what there is."""
    if name not in table:
        near = get_close_matches(name, table, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"unknown {kind} {name!r}: choose one of {', '.join(table)}{meant}")
    return table[name]
