"""Where images come from: the embedded digits, files and folders in the forms that people have them, a Hub id.

One more kind is one more subclass of `ImageSet` and a line in `find`.
"""

import re
from pathlib import Path

from PIL import Image

from ddim.errors import InputError
from ddim.images.archives import crop_of, published
from ddim.images.arrays import array, digits, idx
from ddim.images.containers import Tar, Zip
from ddim.images.databases import Lmdb
from ddim.images.files import contents_of, files_below, identity_of, is_image, kind_of, one_line
from ddim.images.image_set import ImageSet
from ddim.images.labels import Labels, by_folder
from ddim.images.tables import Table, has_shards, hub, parquet
from ddim.system.files import meant

__all__ = ["Folder", "Table", "check_outside", "find"]


class Folder(ImageSet):
    """The image files below a folder, links to other folders included."""

    def __init__(self, root: Path, size: int, channels: int, skip_broken: bool = False):
        super().__init__(size, channels, skip_broken)
        self.root = root
        self.crop = crop_of(root)
        self.files = []
        for path in files_below(root, self.ignored):
            if is_image(path.name):
                self.files.append(path)
            elif not path.name.startswith("."):
                self.ignored[kind_of(path.name)] += 1
        if not self.files:
            raise InputError(f"{root}: holds no images{self.only() or ' (no files)'}; name a folder of image files")

    def open(self, i: int) -> Image.Image:
        return Image.open(self.files[i])

    def name(self, i: int) -> str:
        return str(self.files[i])

    def identity(self) -> str:
        return identity_of(self.files)

    def contents(self) -> str:
        return contents_of(self.files)

    def find_labels(self) -> Labels | None:
        return by_folder([path.relative_to(self.root).as_posix() for path in self.files])

    def __len__(self) -> int:
        return len(self.files)


def find(source: str, size: int, channels: int, skip_broken: bool = False) -> ImageSet:
    """The images that `source` names: `digits`; a folder of images, of parquet shards or of webdataset shards; a .zip,
    .tar, .parquet, .npy, .npz or idx file; a data set as its authors distribute it; a Hub id.

    A split is named behind a colon, as in `stl10_binary.tar.gz:test`; of several columns or arrays with images, one
    behind a #, as in `pairs.parquet#target`. Raises InputError.
    """
    if not source:
        raise InputError("no images named: give --data FOLDER, FILE.parquet or HUB-ID")
    if source == "digits":
        return digits(size, channels)
    path, split, column = located(source)
    if not path.exists():
        name = source.partition("#")[0].removesuffix(f":{split}")
        if path.suffix or name.count("/") != 1 or name.startswith((".", "~", "/")) or meant(path):
            raise InputError(f"{source}: no such folder or file{meant(path)}")
        return Table(hub(name, split), source, size, channels, skip_broken, column)
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{source}: neither a file nor a folder")
    try:
        found = _folder if path.is_dir() else _file
        images = found(path, split, column, source, (size, channels, skip_broken))
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror or one_line(error)})") from None
    if images is None:
        raise InputError(
            f"{source}: neither a folder of images, nor a .parquet, .npy, .npz, .zip, .tar or idx file, "
            "nor an archive that is known"
        )
    return images


def located(source: str) -> tuple[Path, str, str]:
    """The path that a source names, the split behind its colon, the column behind its #; a path that exists, whole."""
    try:
        for name, split, column in _readings(source):
            path = Path(name).expanduser()
            if path.exists():
                return path, split, column
        return path, split, column
    except (OSError, RuntimeError, ValueError) as error:  # too long, of a user who is not there, with a null byte
        raise InputError(
            f"{source[:200]}: no such folder or file ({getattr(error, 'strerror', '') or error})"
        ) from None


def check_outside(out: str | Path, *sources: str) -> None:
    """Raise InputError where a result would lie below a folder that it is made from: the next reading of that folder
    would take it for one of the images."""
    for source in sources:
        root, place = located(source)[0], Path(out).expanduser().resolve()
        if source not in ("", "digits") and root.is_dir() and place.is_relative_to(root.resolve()):
            raise InputError(f"{out}: lies within the images of {source}; name another place by --out")


def _readings(source: str):
    """What a source can mean, the most literal first."""
    yield source, "", ""
    name, _, column = source.rpartition("#") if "#" in source else (source, "", "")
    if column:
        yield name, "", column
    found = re.fullmatch(r"(.+):([\w.-]+)", name)
    yield (found[1], found[2], column) if found else (name, "", column)


def absolute(source: str) -> str:
    """A source that names the same images from every directory: a path that exists becomes an absolute one."""
    path, split, column = located(source)
    if source in ("", "digits") or not path.exists():
        return source
    return str(path.resolve()) + (f":{split}" if split else "") + (f"#{column}" if column else "")


def _file(path: Path, split: str, column: str, source: str, how: tuple[int, int, bool]) -> ImageSet | None:
    size, channels, _ = how
    suffix = path.suffix.lower()
    if split and suffix in (".zip", ".npy", ".npz", ".parquet"):
        raise InputError(f"{source}: a {suffix} file has no splits; leave out :{split}")
    if column and suffix not in (".npz", ".parquet", ".tar"):
        raise InputError(f"{source}: a {suffix or 'plain'} file has no columns; leave out #{column}")
    if suffix == ".zip":
        return Zip(path, *how, crop=crop_of(path))
    if suffix in (".npy", ".npz"):
        return array(path, column, size, channels)
    if suffix == ".parquet":
        return Table(parquet(path, source, split), source, *how, column)
    if (found := published(path, split, size, channels) or idx(path, split, size, channels)) is not None:
        return found
    if split:
        raise InputError(f"{path}: holds no split {split!r} of CIFAR-10 or STL-10")
    return Tar([path], *how, column) if suffix == ".tar" else None


def _folder(path: Path, split: str, column: str, source: str, how: tuple[int, int, bool]) -> ImageSet:
    size, channels, _ = how
    if (path / "data.mdb").exists():
        return Lmdb(path, *how)
    if (found := published(path, split, size, channels) or idx(path, split, size, channels)) is not None:
        return found
    files = [file for file in files_below(path) if not file.name.startswith(".")]
    kinds = {file.suffix.lower() for file in files}
    images = any(is_image(file.name) for file in files)
    if has_shards(files) or (".parquet" in kinds and not images):
        return Table(parquet(path, source, split), source, *how, column)
    if ".tar" in kinds and not images and not split:
        return Tar([file for file in files if file.suffix.lower() == ".tar"], *how, column)
    if split:
        raise InputError(f"{path}: holds no split {split!r} of CIFAR-10 or STL-10, of MNIST, or of parquet files")
    if column:
        raise InputError(f"{source}: a folder of images has no columns; leave out #{column}")
    return Folder(path, *how)
