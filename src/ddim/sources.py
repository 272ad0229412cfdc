"""Where pictures come from: the embedded digits, a folder, a parquet file, a Hub id.

Every source is a list of undecoded pictures; one more kind is one more subclass of `Pictures` and a line in `find`.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from ddim.errors import InputError


def fit(picture: Image.Image, size: int, channels: int) -> Tensor:
    """A picture of any mode and size -> (channels, size, size) uint8: upright, centre-cropped, resized antialiased."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits a sample: keep the upper 8, which Pillow's convert would clip
        picture = Image.fromarray((np.asarray(picture, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    array = np.array(picture).reshape(size, size, channels)
    return torch.from_numpy(array).permute(2, 0, 1)  # (C, H, W)


class Pictures(Dataset):
    """A source of undecoded pictures; `pictures[i]` decodes one. Subclasses say how to open and name number i."""

    def __init__(self, size: int, channels: int, skip_broken: bool = False):
        self.size, self.channels, self.skip_broken = size, channels, skip_broken

    def open(self, i: int) -> Image.Image:
        raise NotImplementedError

    def name(self, i: int) -> str:
        raise NotImplementedError

    def identity(self) -> str:
        """A text that changes when the pictures do."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def decode(self, i: int) -> Tensor | None:
        """(C, H, W) uint8; a broken picture is an InputError, or None with `skip_broken`."""
        try:
            with self.open(i) as picture:
                return fit(picture, self.size, self.channels)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if self.skip_broken:
                return None
            reason = "cannot be identified" if "identify" in str(error) else str(error)
            raise InputError(
                f"{self.name(i)}: not a readable picture ({reason}); remove it or pass --skip-broken"
            ) from None

    def __getitem__(self, i: int) -> Tensor:
        """(C, H, W) uint8. With `skip_broken`, a broken picture's place is taken by the next good one."""
        for j in range(len(self)):
            if (picture := self.decode((i + j) % len(self))) is not None:
                return picture
        raise InputError(f"{self.name(i)}: no picture here can be read")


class Folder(Pictures):
    def __init__(self, root: Path, size: int, channels: int, skip_broken: bool = False):
        super().__init__(size, channels, skip_broken)
        self.root = root
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


class Digits(Pictures):
    """scikit-learn's 1,797 real handwritten digits, 8×8 with 17 grey levels."""

    def __init__(self, size: int = 8, channels: int = 1):
        from sklearn.datasets import load_digits

        super().__init__(size, channels)
        self.images = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)

    def open(self, i: int) -> Image.Image:
        return Image.fromarray(self.images[i])

    def name(self, i: int) -> str:
        return f"digit {i}"

    def identity(self) -> str:
        return "digits"

    def __len__(self) -> int:
        return len(self.images)


def find(source: str, size: int, channels: int, skip_broken: bool = False) -> Pictures:
    """The pictures that `source` names: `digits`, a folder, a .parquet file or a Hub id. Raises InputError."""
    if not source:
        raise InputError("no pictures named: give --data FOLDER, FILE.parquet or HUB-ID")
    if source == "digits":
        return Digits(size, channels)
    path = Path(source).expanduser()
    if path.is_dir():
        return Folder(path, size, channels, skip_broken)
    if not path.exists() and (path.suffix or source.count("/") != 1 or source.startswith((".", "~"))):
        raise InputError(f"{source}: no such folder or file")
    if path.exists() and path.suffix != ".parquet":
        raise InputError(f"{source}: neither a folder of pictures nor a .parquet file")
    return Table(_load_table(source, path), source, size, channels, skip_broken)


def _load_table(source: str, path: Path):
    """A parquet file or the train split of a Hub set, memory-mapped by the `datasets` library."""
    import datasets

    datasets.disable_progress_bars()
    try:
        if path.exists():
            return datasets.load_dataset("parquet", data_files=str(path), split="train")
        return datasets.load_dataset(source, split="train")
    except Exception as error:  # the library raises its own, the Hub's, pyarrow's and the network's
        reason = str(error.__cause__ or error).splitlines()[0][:160]
        kind = "cannot be read as parquet" if path.exists() else "no such folder, and not reachable on the Hub either"
        raise InputError(f"{source}: {kind} ({reason})") from error
