"""`Facts` as `model_index.json` keeps them, both ways."""

from dataclasses import asdict, fields
from typing import Any

from ddim.diffusion.clipping import Clip
from ddim.diffusion.facts import Facts

KINDS = {  # what the file keeps, and the type that a value must have
    "source": str, "layout": str, "preset": str, "data": str, "steps": int, "images": int, "averaged": bool,
    "assumed": dict,
}  # fmt: skip


def record_of(facts: Facts) -> dict[str, Any]:
    """What is known, by name; free text beside it. What only this process knows (precision, …) is left out."""
    record = {name: getattr(facts, name) for name in KINDS if getattr(facts, name) not in (None, {})}
    if facts.clip is not None:
        record["clip"] = asdict(facts.clip) if isinstance(facts.clip, Clip) else facts.clip
    return {**record, **facts.notes}


def facts_of(record: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Facts` in a record; what is unknown, or of another type, becomes free text."""
    found: dict[str, Any] = {}
    notes = {name: value for name, value in record.items() if name != "version"}
    for name, kind in KINDS.items():
        if type(notes.get(name)) is kind:
            found[name] = notes.pop(name)
    clip = notes.get("clip", True if notes.get("clip_sample") is True else None)  # the latter in folders of before 0.2
    if isinstance(clip, dict) and set(clip) <= {field.name for field in fields(Clip)}:
        clip = Clip(**clip)
    if clip is True or clip is False or isinstance(clip, Clip):
        found["clip"] = clip
        notes.pop("clip", None), notes.pop("clip_sample", None)
    return {**found, "notes": notes}
