"""JSON files: read as objects or refused in one line, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from ddim.errors import InputError
from ddim.system.files import folder, replacing


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or an InputError that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is this a model folder?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value


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
                f"{path.parent}: holds files made with {name} {before.get(name)}, not {value}; change --out"
            )
    write_json(path, settings)
