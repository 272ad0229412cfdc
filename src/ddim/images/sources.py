"""Where images come from: the embedded digits, a folder, a parquet file, a Hub id, a published archive.

One more kind is one more subclass of `Images` and a line in `find`.
"""

import glob
import os
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ddim.errors import InputError
from ddim.images.archives import SPLITS, crop_of, is_resource, published
from ddim.images.image_set import ArrayImages, ImageSet


class Folder(ImageSet):
    """The image files below a folder, links to other folders included."""

    def __init__(self, root: Path, size: int, channels: int, skip_broken: bool = False):
        super().__init__(size, channels, skip_broken)
        self.root = root
        self.crop = crop_of(root)
        Image.init()
        self.files = []
        for path in files_below(root):
            if path.suffix.lower() in Image.EXTENSION and not is_resource(path.name):
                self.files.append(path)
            elif not path.name.startswith("."):
                self.ignored[path.suffix.lower() or path.name] += 1
        if not self.files:
            found = f"only {', '.join(sorted(self.ignored)[:5])}" if self.ignored else "no files"
            raise InputError(f"{root}: holds no images ({found}); name a folder of image files")

    def open(self, i: int) -> Image.Image:
        return Image.open(self.files[i])

    def name(self, i: int) -> str:
        return str(self.files[i])

    def identity(self) -> str:
        return str([(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in self.files])

    def __len__(self) -> int:
        return len(self.files)


def files_below(root: Path) -> list[Path]:
    """Every regular file below a folder, in order, through links too, each folder once: links can go in circles."""
    seen, found = set(), []
    for where, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if name != "__MACOSX"]
        found += [path for name in names if (path := Path(where, name)).is_file()]
    return sorted(found)


class Table(ImageSet):
    """A table of the `datasets` library (a parquet file, a Hub set) with a column of encoded images."""

    def __init__(self, table, source: str, size: int, channels: int, skip_broken: bool = False):
        from datasets import Image as ImageColumn

        super().__init__(size, channels, skip_broken)
        self.source = source
        columns = [name for name in table.column_names if _holds_images(table, name)]
        source, _, wanted = source.partition("#")
        if wanted:
            columns = [name for name in columns if name == wanted]
        if not columns:
            found = f"column {wanted} does not hold images" if wanted else "no column holds images"
            raise InputError(f"{source}: {found}; its columns are {', '.join(table.column_names)}")
        if len(columns) > 1:
            raise InputError(f"{source}: columns {', '.join(columns)} hold images; name one as {source}#{columns[0]}")
        column = columns[0]
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


def _holds_images(table, name: str) -> bool:
    """Whether a column is the library's Image type, or a struct {bytes, path} or plain binary of encoded images."""
    from datasets import Image as ImageColumn

    feature = table.features[name]
    if isinstance(feature, ImageColumn):
        return True
    struct = isinstance(feature, dict) and {"bytes", "path"} <= feature.keys()
    if not struct and getattr(feature, "dtype", None) not in ("binary", "large_binary"):
        return False
    cells = (table[i][name] for i in range(min(len(table), 20)))
    first = next((cell["bytes"] if struct else cell for cell in cells if cell), None)
    if first is None:
        return struct
    try:
        Image.open(BytesIO(first)).close()
    except Exception:  # bytes of something else
        return False
    return True


def digits(size: int, channels: int) -> ArrayImages:
    """scikit-learn's 1,797 real handwritten digits, 8×8 with 17 grey levels."""
    from sklearn.datasets import load_digits

    images = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    return ArrayImages("digits", images, "", size, channels)


def sample_batch(path: Path, size: int, channels: int) -> ArrayImages:
    """An .npz of images under arr_0, (N, H, W, C) uint8, as sampling writes it here and elsewhere."""
    try:
        with np.load(path) as file:
            keys, images = file.files, file["arr_0"] if "arr_0" in file.files else None
    except Exception as error:  # what a broken archive provokes
        raise InputError(f"{path}: cannot be read ({(str(error).splitlines() or [''])[0][:120]})") from None
    if images is None or images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise InputError(f"{path}: holds no images, which would be arr_0, (N, H, W, C) uint8; its keys are {keys}")
    images = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
    stat = path.stat()
    return ArrayImages(str(path), images, f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}", size, channels)


def find(source: str, size: int, channels: int, skip_broken: bool = False) -> ImageSet:
    """The images that `source` names: `digits`; a folder; a .parquet file; a Hub id; or a data set as its authors
    distribute it (`ddim.published`). A split is named behind a colon, as in `stl10_binary.tar.gz:test`.

    Raises InputError.
    """
    if not source:
        raise InputError("no images named: give --data FOLDER, FILE.parquet or HUB-ID")
    if source == "digits":
        return digits(size, channels)
    name, colon, split = source.rpartition(":")
    if not colon or split not in SPLITS:
        name, split = source, ""
    path = Path(name.partition("#")[0]).expanduser()
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{source}: neither a file nor a folder")
    found = published(path, split, size, channels, skip_broken) if path.exists() else None
    if found is not None:
        return found
    if path.is_dir():
        return Folder(path, size, channels, skip_broken)
    if not path.exists() and (path.suffix or name.count("/") != 1 or name.startswith((".", "~"))):
        raise InputError(f"{source}: no such folder or file")
    if path.is_file() and path.suffix == ".npz":
        return sample_batch(path, size, channels)
    if path.exists() and path.suffix != ".parquet":
        raise InputError(f"{source}: neither a folder of images, nor a .parquet file, nor an archive that is known")
    table = _load_table(name.partition("#")[0], path, split or "train")
    return Table(table, source, size, channels, skip_broken)


def _load_table(source: str, path: Path, split: str):
    """A parquet file or a split of a Hub set, memory-mapped by the `datasets` library."""
    import datasets

    datasets.disable_progress_bars()
    try:
        if path.exists():
            return datasets.load_dataset("parquet", data_files=glob.escape(str(path)), split="train")
        return datasets.load_dataset(source, split=split)
    except Exception as error:  # the library raises its own, the Hub's, pyarrow's and the network's
        reason = str(error.__cause__ or error).splitlines()[0][:160]
        kind = "cannot be read as parquet" if path.exists() else "no such folder, and not reachable on the Hub either"
        raise InputError(f"{source}: {kind} ({reason})") from error
