"""The option of verbs that report figures: the whole record as one line of JSON on stdout."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PLACES = ("file", "figure", "figures")  # where a measurement was written, which its file does not hold


@dataclass(frozen=True, kw_only=True)
class AsJson:
    """What is printed."""

    json: bool = False
    """Print the whole record as one line of JSON instead of a table."""


def print_json(record: Mapping[str, Any], leave_out: tuple[str, ...] = PLACES) -> None:
    """One line of JSON, in UTF-8 letters; what JSON has no kind for, as text."""
    kept = {name: value for name, value in record.items() if name not in leave_out}
    print(json.dumps(kept, ensure_ascii=False, default=str), flush=True)
