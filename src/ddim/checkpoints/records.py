"""`Facts` as `model_index.json` keeps them, both ways."""

from dataclasses import asdict
from typing import Any

from ddim.diffusion.clipping import Clip
from ddim.diffusion.facts import Facts
from ddim.errors import InputError
from ddim.system.json import conforms, fields_of

KINDS = {  # what the file keeps, and the type that a value must have
    "source": str, "layout": str, "preset": str, "data": str, "steps": int, "images": int, "averaged": bool,
    "classes": tuple[str, ...], "spacing": str, "last_time": int, "assumed": dict,
}  # fmt: skip
OF_WEIGHTS = ("steps", "images")  # what changes whenever training writes its weights, and so is kept within their file


def record_of(facts: Facts) -> dict[str, Any]:
    """What is known, by name; free text beside it. What only this process knows (precision, …) is left out."""
    unset = Facts()
    record = {name: getattr(facts, name) for name in KINDS if getattr(facts, name) != getattr(unset, name)}
    if facts.clip is not None:
        record["clip"] = asdict(facts.clip) if isinstance(facts.clip, Clip) else facts.clip
    return {**record, **facts.notes}


def facts_of(record: Any) -> dict[str, Any]:
    """The fields of `Facts` in a record; what is unknown, or of another type, becomes free text."""
    if not isinstance(record, dict):
        return {}
    found: dict[str, Any] = {}
    notes = {name: value for name, value in record.items() if name != "version"}
    for name, kind in KINDS.items():
        value = tuple(notes[name]) if isinstance(notes.get(name), list) else notes.get(name)
        if name in notes and conforms(value, kind):
            found[name] = value
            del notes[name]
    if found.get("last_time", 0) not in (0, 1):
        notes["last_time"] = found.pop("last_time")
    clip = notes.get("clip", True if notes.get("clip_sample") is True else None)  # the latter in folders of before 0.2
    if isinstance(clip, dict):
        clip = clip_of(clip)
    if clip is True or clip is False or isinstance(clip, Clip):
        found["clip"] = clip
        notes.pop("clip", None), notes.pop("clip_sample", None)
    return {**found, "notes": notes}


def clip_of(record: dict[str, Any]) -> Clip | None:
    """A `Clip` from its record, or None where it is no such record."""
    try:
        clip = Clip(**fields_of(Clip, record))
    except InputError:
        return None
    return clip if clip.range > 0 else None
