"""The paper's data sets in the form their authors distribute them. Nothing is unpickled, nothing is unpacked to disk.

CIFAR-10: cifar-10-binary.tar.gz, its folder, or one of its .bin files (Krizhevsky 2009).
STL-10: stl10_binary.tar.gz, its folder, or one of its .bin files (Coates et al. 2011).
CelebA: img_align_celeba.zip or its folder, with the crop the paper used (Liu et al. 2015); other zips of images too.
LSUN: the lmdb folders (Yu et al. 2015); needs the `lmdb` package.
"""

import re
import tarfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ddim.errors import InputError
from ddim.images.image_set import ArrayImages, ImageSet

SPLITS = ("train", "test", "unlabeled")
CELEBA_CROP = (25, 57, 153, 185)  # centre (89, 121) ± 64 of 178×218: left, upper, right, lower
# Data set -> split -> the names of its files. The first split that is there is what an unnamed one means.
FILES = {
    "CIFAR-10": {"train": r"data_batch_\d\.bin", "test": r"test_batch\.bin"},
    "STL-10": {"unlabeled": r"unlabeled_X\.bin", "train": r"train_X\.bin", "test": r"test_X\.bin"},
}


def is_resource(name: str) -> bool:
    """Whether a file is what macOS puts beside files: `._x`, and everything in `__MACOSX`."""
    return name.rpartition("/")[2].startswith("._") or "__MACOSX" in name.split("/")


def crop_of(path: Path) -> tuple[int, int, int, int] | None:
    """The crop for what lies at `path`: CelebA's for its aligned images, by their published name."""
    return CELEBA_CROP if "img_align_celeba" in path.resolve().as_posix() else None


def published(path: Path, split: str, size: int, channels: int, skip_broken: bool = False) -> ImageSet | None:
    """The data set at `path` where it is one of the published forms, else None. Raises InputError on a damaged one."""
    if path.is_dir() and (path / "data.mdb").exists():
        return Lmdb(path, size, channels, skip_broken)
    if path.suffix == ".zip":
        return Zip(path, size, channels, skip_broken)
    try:
        found = _records(path, split)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise InputError(f"{path}: truncated or not an archive ({error})") from None
    if found is None:
        if split:
            raise InputError(f"{path}: holds no split {split!r} of CIFAR-10 or STL-10")
        return None
    images, files, name = found
    identity = str([(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]) + split
    made = ArrayImages(str(path), images, identity, size, channels)
    made.published_as = name
    return made


def _records(path: Path, split: str) -> tuple[np.ndarray, list[Path], str] | None:
    """The images (N, H, W, 3) uint8 of a CIFAR-10 or STL-10 archive, folder or file, and the files they lie in."""
    for name, patterns in FILES.items():
        for pattern in [patterns.get(split, "no such split")] if split else patterns.values():
            if parts := list(_parts(path, pattern)):
                form = _cifar10 if name == "CIFAR-10" else _stl10
                images = [form(where, raw) for where, raw, _ in parts]
                whole = images[0] if len(images) == 1 else np.concatenate(images)  # one alone stays a memory map
                return whole, [file for _, _, file in parts], name
    return None


def _parts(path: Path, pattern: str) -> Iterator[tuple[str, np.ndarray, Path]]:
    """The files of that name at `path`, in order: what to call each, its bytes (n,) uint8, the file on disk."""
    if path.is_dir():
        for file in sorted(f for f in path.rglob("*.bin") if re.fullmatch(pattern, f.name)):
            yield str(file), np.memmap(file, np.uint8, "r"), file
    elif path.suffix == ".bin" and re.fullmatch(pattern, path.name):
        yield str(path), np.memmap(path, np.uint8, "r"), path
    elif path.name.endswith((".tar.gz", ".tgz", ".tar")):
        with tarfile.open(path) as archive:
            members = [m for m in archive.getmembers() if m.isfile() and re.fullmatch(pattern, Path(m.name).name)]
            for member in sorted(members, key=lambda m: m.name):
                raw = np.frombuffer(archive.extractfile(member).read(), np.uint8)
                yield f"{path}/{member.name}", raw, path


def _cifar10(where: str, raw: np.ndarray) -> np.ndarray:
    """Records of one label and 3×32×32 bytes, by rows -> (N, 32, 32, 3)."""
    return _split(where, raw, 1 + 3 * 32 * 32)[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _stl10(where: str, raw: np.ndarray) -> np.ndarray:
    """Records of 3×96×96 bytes, by columns -> (N, 96, 96, 3)."""
    return _split(where, raw, 3 * 96 * 96).reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)


def _split(where: str, raw: np.ndarray, record: int) -> np.ndarray:
    if len(raw) % record:
        raise InputError(f"{where}: truncated: its {len(raw)} bytes are no multiple of {record}, a image's")
    return raw.reshape(-1, record)


class Zip(ImageSet):
    """The images of a zip file."""

    def __init__(self, path: Path, size: int, channels: int, skip_broken: bool = False):
        super().__init__(size, channels, skip_broken)
        self.path, self.crop = path, crop_of(path)
        Image.init()
        try:
            self.archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: truncated or not a zip file ({error})") from None
        names = [name for name in self.archive.namelist() if not is_resource(name)]
        self.names = sorted(name for name in names if Path(name).suffix.lower() in Image.EXTENSION)
        if not self.names:
            raise InputError(f"{path}: holds no pictures")

    def __getstate__(self) -> dict:
        return {**self.__dict__, "archive": None}  # each worker process opens its own

    def open(self, i: int) -> Image.Image:
        self.archive = self.archive or zipfile.ZipFile(self.path)
        try:
            return Image.open(BytesIO(self.archive.read(self.names[i])))
        except zipfile.BadZipFile as error:
            raise OSError(str(error)) from None

    def name(self, i: int) -> str:
        return f"{self.path}/{self.names[i]}"

    def identity(self) -> str:
        return f"{self.path.resolve()} {self.path.stat().st_size} {self.path.stat().st_mtime_ns}"

    def __len__(self) -> int:
        return len(self.names)


class Lmdb(ImageSet):
    """An lmdb folder of encoded images, as LSUN is distributed."""

    def __init__(self, path: Path, size: int, channels: int, skip_broken: bool = False):
        super().__init__(size, channels, skip_broken)
        self.path, self.database = path, None
        with self._read() as transaction:
            self.keys = [bytes(key) for key in transaction.cursor().iternext(keys=True, values=False)]
        if not self.keys:
            raise InputError(f"{path}: holds no pictures")

    def _read(self):
        if self.database is None:
            try:
                import lmdb
            except ImportError:
                raise InputError(f"{self.path}: an lmdb folder; pip install lmdb to read it") from None
            try:
                self.database = lmdb.open(str(self.path), readonly=True, lock=False, readahead=False)
            except lmdb.Error as error:
                raise InputError(f"{self.path}: truncated or not lmdb ({error})") from None
        return self.database.begin()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "database": None}  # each worker process opens its own

    def open(self, i: int) -> Image.Image:
        with self._read() as transaction:
            return Image.open(BytesIO(transaction.get(self.keys[i])))

    def name(self, i: int) -> str:
        return f"{self.path}, key {self.keys[i].decode(errors='replace')}"

    def identity(self) -> str:
        stat = (self.path / "data.mdb").stat()
        return f"{self.path.resolve()} {stat.st_size} {stat.st_mtime_ns}"

    def __len__(self) -> int:
        return len(self.keys)
