"""A database of encoded images: an lmdb folder, as LSUN is distributed. It is mapped, and nothing of it is unpacked."""

import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from ddim.errors import InputError
from ddim.images.files import check_encoded, contents_of, identity_of, opened, unreadable
from ddim.images.image_set import ImageSet

LMDB_MAGIC = 0xBEEFC0DE
# Open ones by their real paths: the library opens each only once in a process.
DATABASES: dict[str, Any] = {}


class Lmdb(ImageSet):
    """An lmdb folder of encoded images, as LSUN is distributed."""

    def __init__(self, path: Path, size: int, channels: int, skip_broken: bool = False):
        super().__init__(size, channels, skip_broken)
        self.path = path
        check_lmdb(path / "data.mdb")
        self.keys = keys_of(path)
        if not self.keys:
            raise InputError(f"{path}: holds no images")

    def _read(self):
        real = str(self.path.resolve())
        if real not in DATABASES:
            import lmdb

            DATABASES[real] = lmdb.open(real, readonly=True, lock=False, readahead=False)
        return DATABASES[real].begin(buffers=True)

    def open(self, i: int) -> Image.Image:
        with self._read() as transaction:
            value = transaction.get(self.keys[i])
            check_encoded(len(value))
            return opened(bytes(value))

    def name(self, i: int) -> str:
        return f"{self.path}, key {self.keys[i].decode(errors='replace')}"

    def identity(self) -> str:
        return identity_of([self.path / "data.mdb"])

    def contents(self) -> str:
        return contents_of([self.path / "data.mdb"])

    def __len__(self) -> int:
        return len(self.keys)


# Writes every key, its length before it, and reads every value.
LIST = """
import lmdb, sys
with lmdb.open(sys.argv[1], readonly=True, lock=False, readahead=False).begin(buffers=True) as transaction:
    for key in transaction.cursor().iternext(keys=True, values=False):
        key = bytes(key)
        bytes(transaction.get(key))
        sys.stdout.buffer.write(len(key).to_bytes(4, "little") + key)
"""


def keys_of(path: Path) -> list[bytes]:
    """The keys of an lmdb folder, in order, read by another process: a damaged file kills the one that follows its
    tree. Raises InputError.
    """
    ended = subprocess.run([sys.executable, "-c", LIST, str(path.resolve())], capture_output=True)
    said = ended.stderr.decode(errors="replace").strip().splitlines()
    if "No module named 'lmdb'" in str(said[-1:]):
        raise InputError(f"{path}: an lmdb folder; pip install lmdb to read it")
    if ended.returncode < 0:
        how = signal_name(-ended.returncode)
        raise InputError(f"{path}: damaged: reading it kills a process by {how}; copy it again")
    if ended.returncode:
        raise unreadable(path, "lmdb", ValueError(said[-1] if said else ""))
    keys, at = [], 0
    while at < len(ended.stdout):
        end = at + 4 + int.from_bytes(ended.stdout[at : at + 4], "little")
        keys.append(ended.stdout[at + 4 : end])
        at = end
    return keys


def signal_name(number: int) -> str:
    """The name of a signal, or its number where it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def check_lmdb(path: Path) -> None:
    """Raises InputError unless a data.mdb has all the pages that its head counts.

    The library maps the file into memory: where its end is missing, the system would kill the process.
    """
    if not path.is_file():
        raise InputError(f"{path}: not a file")
    try:
        with open(path, "rb") as file:
            head = file.read(168)
            page = struct.unpack_from("<I", head, 40)[0]
            if not 512 <= page <= 2**16:
                raise ValueError("no page size")
            file.seek(page)
            metas = [head, file.read(168)]
        # Two heads take turns; the one of the later transaction holds. magic at 16, last page and transaction at 136
        metas = [meta for meta in metas if struct.unpack_from("<I", meta, 16)[0] == LMDB_MAGIC]
        last, _ = max((struct.unpack_from("<QQ", meta, 136) for meta in metas), key=lambda found: found[1])
    except (OSError, ValueError, struct.error):
        raise InputError(f"{path}: truncated or not lmdb; copy it again") from None
    size = path.stat().st_size
    if size < (last + 1) * page:
        raise InputError(f"{path}: truncated: it has {size:,} bytes of {(last + 1) * page:,}; copy it again")
