"""Which files are images, which to pass over, and how encoded bytes are opened."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path, PurePosixPath

from PIL import Image

from ddim.errors import InputError

ENCODED = 2**28  # bytes that one encoded image in an archive may have: more would fill the memory
PIECE = 2**16  # bytes of a file that are compared, at each of three places
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


def files_below(root: Path, others: Counter[str] | None = None) -> list[Path]:
    """Every regular file below a folder, in order, through links too, each folder once: links can go in circles.

    others: counts what is no such file, as links to nothing and pipes.
    """
    seen, found = set(), []
    for where, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name != "__MACOSX")
        for path in (Path(where, name) for name in names):
            if path.is_file():
                found.append(path)
            elif others is not None:
                others["links to nothing" if path.is_symlink() else "pipes and devices"] += 1
    return sorted(found)


def identity_of(files: Iterable[Path]) -> str:
    """A text that changes when files do: their places, sizes and times; nobody sets the last of them by hand."""
    facts = [(str(p.resolve()), p.stat()) for p in files]
    return str([(place, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for place, s in facts])


def contents_of(files: Iterable[Path]) -> str:
    """A text that is the same for copies of files elsewhere, in this order: their sizes, and three pieces of each, for
    files that are too large to be read whole.
    """
    found = []
    for path in files:
        size, digest = path.stat().st_size, hashlib.sha256()
        with open(path, "rb") as file:
            for start in (0, max(0, size // 2 - PIECE // 2), max(0, size - PIECE)):
                file.seek(start)
                digest.update(file.read(PIECE))
        found.append((size, digest.hexdigest()))
    return str(found)


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
