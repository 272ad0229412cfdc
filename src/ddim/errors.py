"""The one exception that means "the request was wrong", as opposed to "the program is"."""


class InputError(ValueError):
    """What was asked cannot be done. The message is one line that names the thing and the remedy."""


def choose(kind: str, name: str, table: dict):
    """`table[name]`, or an InputError that lists what there is."""
    if name not in table:
        raise InputError(f"unknown {kind} {name!r}: choose one of {', '.join(table)}")
    return table[name]
