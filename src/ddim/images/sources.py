"""Where pictures come from: the embedded digits, a folder, a parquet file, a Hub id, a published archive.

One more kind is one more subclass of `Pictures` and a line in `find`.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ddim.errors import InputError
from ddim.images.archives import SPLITS, crop_of, published
from ddim.images.image_set import Array, Pictures


class Folder(Pictures):
    def __init__(self, root: Path, size: int, channels: int, skip_broken: bool = False):
        super().__init__(size, channels, skip_broken)
        self.root = root
        self.crop = crop_of(root)
        Image.init()
        self.files = sorted(p for p in root.rglob("*") if p.suffix.lower() in Image.EXTENSION and p.is_file())
        if not self.files:
            raise InputError(f"{root}: holds no pictures; name a folder of image files")

    def open(self, i: int) -> Image.Image:
        return Image.open(self.files[i])

    def name(self, i: int) -> str:
        return str(self.files[i])

    def identity(self) -> str:
        return str([(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in self.files])

    def __len__(self) -> int:
        return len(self.files)


class Table(Pictures):
    """A table of the `datasets` library (a parquet file, a Hub set) with a column of encoded pictures."""

    def __init__(self, table, source: str, size: int, channels: int, skip_broken: bool = False):
        from datasets import Image as ImageColumn

        super().__init__(size, channels, skip_broken)
        self.source = source
        column = next((name for name in table.column_names if _holds_pictures(table.features[name])), None)
        if column is None:
            raise InputError(f"{source}: no column holds pictures; its columns are {', '.join(table.column_names)}")
        self.table = table.select_columns([column]).cast_column(column, ImageColumn(decode=False))
        self.column = column
        if not len(self.table):
            raise InputError(f"{source}: holds no pictures")

    def open(self, i: int) -> Image.Image:
        cell = self.table[i][self.column]
        if cell is None:
            raise ValueError("empty cell")
        return Image.open(BytesIO(cell["bytes"]) if cell["bytes"] else cell["path"])

    def name(self, i: int) -> str:
        return f"{self.source}, row {i}"

    def identity(self) -> str:
        return f"{self.source} {self.table._fingerprint}"

    def __len__(self) -> int:
        return len(self.table)


def _holds_pictures(feature) -> bool:
    """Whether a column is the library's Image type, a struct {bytes, path}, or plain binary."""
    from datasets import Image as ImageColumn

    return (
        isinstance(feature, ImageColumn)
        or (isinstance(feature, dict) and {"bytes", "path"} <= feature.keys())
        or getattr(feature, "dtype", None) in ("binary", "large_binary")
    )


def digits(size: int, channels: int) -> Array:
    """scikit-learn's 1,797 real handwritten digits, 8×8 with 17 grey levels."""
    from sklearn.datasets import load_digits

    images = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    return Array("digits", images, "", size, channels)


def find(source: str, size: int, channels: int, skip_broken: bool = False) -> Pictures:
    """The pictures that `source` names: `digits`; a folder; a .parquet file; a Hub id; or a data set as its authors
    distribute it (`ddim.published`). A split is named behind a colon, as in `stl10_binary.tar.gz:test`.

    Raises InputError.
    """
    if not source:
        raise InputError("no pictures named: give --data FOLDER, FILE.parquet or HUB-ID")
    if source == "digits":
        return digits(size, channels)
    name, colon, split = source.rpartition(":")
    if not colon or split not in SPLITS:
        name, split = source, ""
    path = Path(name).expanduser()
    found = published(path, split, size, channels, skip_broken) if path.exists() else None
    if found is not None:
        return found
    if path.is_dir():
        return Folder(path, size, channels, skip_broken)
    if not path.exists() and (path.suffix or name.count("/") != 1 or name.startswith((".", "~"))):
        raise InputError(f"{source}: no such folder or file")
    if path.exists() and path.suffix != ".parquet":
        raise InputError(f"{source}: neither a folder of pictures, nor a .parquet file, nor an archive that is known")
    return Table(_load_table(name, path, split or "train"), source, size, channels, skip_broken)


def _load_table(source: str, path: Path, split: str):
    """A parquet file or a split of a Hub set, memory-mapped by the `datasets` library."""
    import datasets

    datasets.disable_progress_bars()
    try:
        if path.exists():
            return datasets.load_dataset("parquet", data_files=str(path), split="train")
        return datasets.load_dataset(source, split=split)
    except Exception as error:  # the library raises its own, the Hub's, pyarrow's and the network's
        reason = str(error.__cause__ or error).splitlines()[0][:160]
        kind = "cannot be read as parquet" if path.exists() else "no such folder, and not reachable on the Hub either"
        raise InputError(f"{source}: {kind} ({reason})") from error
