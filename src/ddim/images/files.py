"""Which files are images, which to pass over, and how encoded bytes are opened."""

import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path, PurePosixPath

from PIL import Image

from ddim.errors import InputError

ENCODED = 2**28  # bytes that one encoded image in an archive may have: more would fill the memory
# Formats that Pillow knows by name alone, or hands to another program, or that are no images but videos and documents.
NOT_IMAGES = {".bufr", ".eps", ".grib", ".h5", ".hdf", ".mpeg", ".mpg", ".pdf", ".ps", ".emf", ".wmf"}


def is_image(name: str) -> bool:
    """Whether a name is an image file's, by its suffix; not what macOS puts beside files."""
    Image.init()
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in Image.EXTENSION and suffix not in NOT_IMAGES and not is_resource(name)


def is_resource(name: str) -> bool:
    """Whether a file is what macOS puts beside files: `._x`, and everything in `__MACOSX`."""
    return name.rpartition("/")[2].startswith("._") or "__MACOSX" in name.split("/")


def kind_of(name: str) -> str:
    """What to call the kind of a file that is passed over: its suffix, or its whole name."""
    path = PurePosixPath(name)
    return path.suffix.lower() or path.name


def files_below(root: Path) -> list[Path]:
    """Every regular file below a folder, in order, through links too, each folder once: links can go in circles."""
    seen, found = set(), []
    for where, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name != "__MACOSX")
        found += [path for name in names if (path := Path(where, name)).is_file()]
    return sorted(found)


def identity_of(files: Iterable[Path]) -> str:
    """A text that changes when files do: their places, sizes and times."""
    return str([(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in files])


def check_encoded(size: int) -> None:
    """Raises ValueError where an encoded image is too large to be read into memory."""
    if size > ENCODED:
        raise ValueError(f"its {size:,} bytes are more than the {ENCODED:,} that an image in an archive may have")


def opened(encoded: bytes) -> Image.Image:
    """An encoded image, opened."""
    check_encoded(len(encoded))
    return Image.open(BytesIO(encoded))


def one_line(error: BaseException) -> str:
    """What an error says, short and in one line; the name of its class where it says nothing."""
    return (str(error).strip().splitlines() or [""])[0][:160] or type(error).__name__


def unreadable(path: Path | str, kind: str, error: BaseException) -> InputError:
    """The one line for a file that cannot be opened as what it should be."""
    if isinstance(error, InputError):
        return error
    return InputError(f"{path}: truncated or not {kind} ({one_line(error)})")
