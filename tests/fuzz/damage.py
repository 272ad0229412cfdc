"""Damage to bytes, to JSON, and to names: what copies, disks, other programs and people do."""

import json
import os
import random
import zlib
from pathlib import Path
from typing import Any

NUMBERS = [0, -1, 1, 2, 3, 7, 0.5, -0.5, 1e-9, 1e9, 1e308, -1e308, 2**31, 2**53, 2**63, -(2**63), 10**30, 10**400]
ODD = [
    None,
    True,
    False,
    "",
    "x",
    "β",
    "1",
    "nan",
    [],
    {},
    [[]],
    [None],
    {"a": {}},
    float("nan"),
    float("inf"),
    *NUMBERS,
]
JUNK = [b"", b"\0", b"{}", b"[]", b"null", b"PK\3\4", b"PK\5\6" + bytes(18), b"\x80\2.", b"<!DOCTYPE html><html>",
        b"\x1f\x8b", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", bytes(4096),
        b"\xff" * 4096]  # fmt: skip


def bytes_of(raw: bytes, rng: random.Random) -> bytes:
    """A file cut, with bits turned, holes, another head or end, doubled, or another one altogether."""
    data = bytearray(raw)
    at = rng.randrange(len(data) + 1)
    match rng.choice(
        ["cut", "cut", "bits", "bits", "head", "end", "hole", "insert", "remove", "double", "junk", "append"]
    ):
        case "cut":
            return bytes(data[:at])
        case "bits":
            return bytes(turned(data, rng, 0, len(data), rng.choice([1, 3, 20, 200])))
        case "head":
            return bytes(turned(data, rng, 0, 256, rng.choice([1, 2, 8])))
        case "end":
            return bytes(turned(data, rng, max(0, len(data) - 256), len(data), rng.choice([1, 2, 8])))
        case "hole":
            data[at : at + 100] = bytes(len(data[at : at + 100]))
        case "insert":
            data[at:at] = rng.randbytes(rng.choice([1, 8, 1000]))
        case "remove":
            del data[at : at + rng.choice([1, 8, 1000])]
        case "double":
            data *= 2
        case "append":
            data += rng.choice(JUNK)
        case "junk":
            return rng.choice(JUNK)
    return bytes(data)


def turned(data: bytearray, rng: random.Random, start: int, end: int, count: int) -> bytearray:
    """Some bytes of a range given other values."""
    end = min(end, len(data))
    for _ in range(count if end > start else 0):
        data[rng.randrange(start, end)] = rng.choice([0, 1, 127, 255, rng.randrange(256)])
    return data


def places(value: Any, where: tuple = ()) -> list[tuple]:
    """The paths to everything in a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [where, *(path for key, part in inside for path in places(part, (*where, key)))]


def json_of(value: Any, rng: random.Random) -> Any:
    """A JSON value in which something has another value, is missing, or is new."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        *way, last = rng.choice(places(value)[1:] or [("new",)])
        inside = value
        for key in way:
            inside = inside[key]
        match rng.choice(["odd", "odd", "odd", "scale", "remove", "add", "deep"]):
            case "odd":
                inside[last] = rng.choice(ODD)
            case "scale":
                old = inside[last] if isinstance(inside, list) or last in inside else 1
                numeric = isinstance(old, int | float) and not isinstance(old, bool)
                inside[last] = old * rng.choice([-1, 2, 3, 1000]) if numeric else [old]
            case "remove":
                if isinstance(inside, list) or last in inside:
                    del inside[last]
            case "add":
                if isinstance(inside, dict):
                    inside[rng.choice(["new", "", "β", "a\nb", "__class__"])] = rng.choice(ODD)
                else:
                    inside.append(rng.choice(ODD))
            case "deep":
                inside[last] = nested(rng.choice([3, 50]))
    return value


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def text_of(text: str, rng: random.Random) -> bytes:
    """A text in another encoding, cut, nested without end, or with other damage."""
    raw = text.encode()
    how = ["bom", "utf-16", "utf-32", "latin-1", "nest", "comma", "twice", "bytes", "null", "bad"]
    match rng.choice(how):
        case "bom":
            return b"\xef\xbb\xbf" + raw
        case "utf-16" | "utf-32" | "latin-1" as encoding:
            return text.encode(encoding, errors="replace")
        case "nest":
            return rng.choice([b"[", b'{"a":', b"- "]) * 100_000
        case "comma":
            return raw.replace(b"}", b",}")
        case "twice":
            return raw + raw
        case "null":
            return raw.replace(b" ", b"\0")
        case "bad":
            return raw.replace(b'"', b"\xff", rng.randrange(1, 9))
    return bytes_of(raw, rng)


def place_of(path: Path, rng: random.Random) -> None:
    """Something other than a file in a file's place."""
    path.unlink(missing_ok=True)
    match rng.choice(["folder", "pipe", "circle", "gone", "device", "nothing"]):
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "circle":
            path.symlink_to(path.name)
        case "gone":
            path.symlink_to("no such file")
        case "device":
            path.symlink_to(rng.choice(["/dev/zero", "/dev/null", "/dev/full"]))


def seed_of(*words: object) -> int:
    """A seed that is the same in every process."""
    return zlib.crc32(" ".join(map(str, words)).encode())
