"""JSON files: read as objects or refused in one line, by field; written whole or not at all."""

import json
import math
import types
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ddim.errors import InputError
from ddim.system.files import folder, replacing

LARGEST = 32 * 2**20  # bytes of a JSON or YAML file that is read
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "an object"}


def read_text(path: Path, what: str = "text") -> bytes:
    """The bytes of a small regular file. Raises InputError: a pipe or a device is not opened, a huge file not read."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: not a file")
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: too large for {what} ({path.stat().st_size >> 20} MiB)")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is this a model folder?") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file in UTF-8, -16 or -32, with or without a byte order mark. Raises InputError."""
    content = read_text(path, "JSON")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error).splitlines()[0][:160]
        raise InputError(f"{path}: cannot be read as JSON ({reason})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value


def checked(values: dict[str, Any], kinds: dict[str, Any]) -> dict[str, Any]:
    """Those of an object's values that `kinds` (name -> annotation) knows, lists as tuples. Raises InputError, by
    field, where a value is not of its kind: numbers are finite, and true is no number.
    """
    found = {}
    for name in kinds.keys() & values.keys():
        value = tuple(values[name]) if isinstance(values[name], list) else values[name]
        if not conforms(value, kinds[name]):
            raise InputError(f"{name} must be {_words(kinds[name])}; got {_short(values[name])}")
        found[name] = value
    return found


def fields_of(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Those of an object's values that are fields of a dataclass, of the annotated kinds. Raises InputError."""
    hints = get_type_hints(kind)
    return checked(values, {field.name: hints[field.name] for field in fields(kind)})


def conforms(value: Any, kind: Any) -> bool:
    """Whether a value from JSON is of a kind: int, float, bool, str, dict, None, tuple[…], Literal, or a union."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(conforms(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin is tuple:
        several = len(parts) == 2 and parts[1] is ...
        return isinstance(value, tuple) and (
            all(conforms(v, parts[0]) for v in value)
            if several
            else len(value) == len(parts) and all(map(conforms, value, parts))
        )
    if kind is float:
        return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
    if kind is int:
        return type(value) is int and abs(value) < 2**53
    return value is None if kind in (None, type(None)) else type(value) is kind


def _words(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part) for part in parts)
    if origin is Literal:
        return ", ".join(str(part) for part in parts)
    if origin is tuple:
        one = _words(parts[0]).removeprefix("a ")
        return f"a list, each {one}" if parts[1:] == (...,) else f"a list of {len(parts)}, each {one}"
    return "null" if kind in (None, type(None)) else WORDS.get(kind, str(kind))


def _short(value: Any) -> str:
    """A value as JSON, cut short; as Python writes it where JSON cannot, as a list of YAML that holds itself."""
    try:
        text = repr(value) if isinstance(value, int) and abs(value) >= 10**40 else json.dumps(value, default=str)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all, making its folder."""
    folder(path.parent)
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def claim(path: Path, settings: dict[str, Any], defaults: dict[str, Any] | None = None) -> None:
    """Write down the settings that a folder's files are made with, or raise InputError where it has other ones.

    defaults: what a file from before a setting existed stands for.
    """
    settings = json.loads(json.dumps(settings))
    before = {**(defaults or {}), **read_json(path)} if path.exists() else settings
    for name, value in settings.items():
        if before.get(name) != value:
            raise InputError(
                f"{path.parent}: holds files made with {name} {before.get(name)}, not {value}; name another folder"
            )
    write_json(path, settings)
