"""Animations from sheets."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from ddim.errors import InputError
from ddim.system.files import replacing


def animation(frames: Sequence[Image.Image], path: Path, seconds: float = 3.0, back: bool = False) -> Path:
    """An endless GIF or WebP, by the suffix of `path`, of `seconds` one way; `back` lets it return the way it came.
    Its first and last frames are held a little. Raises InputError."""
    if path.suffix.lower() not in (".gif", ".webp", ".png"):
        raise InputError(f"{path}: {path.suffix or 'no suffix'} is no format of animations; name a .gif or .webp file")
    with replacing(path) as part:
        part.write_bytes(animated(frames, path.suffix.lower().removeprefix("."), seconds, back))
    return path


def animated(frames: Sequence[Image.Image], format: str, seconds: float = 3.0, back: bool = False) -> bytes:
    """The bytes of an animation; format: gif, webp or png."""
    each = max(20, round(1000 * seconds / len(frames)))
    times = [each] * len(frames)
    times[0] = times[-1] = max(each, 600)
    if back:
        frames, times = [*frames, *frames[-2:0:-1]], [*times, *times[-2:0:-1]]
    written = BytesIO()
    frames[0].save(written, format, save_all=True, append_images=frames[1:], duration=times, loop=0)
    return written.getvalue()
