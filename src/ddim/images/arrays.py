"""Arrays of images: .npy and .npz files, MNIST's idx files, the embedded digits; mapped where not compressed."""

import gzip
import math
import re
import struct
import zipfile
from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np

from ddim.errors import InputError
from ddim.images.files import identity_of, unreadable
from ddim.images.image_set import ArrayImages
from ddim.images.labels import NAMES, Labels, by_name, by_number

UNPACKED = 2**32  # bytes of a compressed array that are unpacked to memory
IDX = {
    "train": r"(.*[-_])?train-images[.-]idx[34]-ubyte(\.gz)?",
    "test": r"(.*[-_])?(t10k|test)-images[.-]idx[34]-ubyte(\.gz)?",
}


def digits(size: int, channels: int) -> ArrayImages:
    """scikit-learn's 1,797 real handwritten digits, 8×8 with 17 grey levels."""
    from sklearn.datasets import load_digits

    held = load_digits()
    images = np.rint(held.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    return ArrayImages("digits", images, "", size, channels, partial(by_number, held.target))


def array(path: Path, column: str, size: int, channels: int) -> ArrayImages:
    """The images of a .npy or .npz file: (N, H, W), (N, H, W, C) or (N, C, H, W) uint8 with 1, 3 or 4 channels.

    column: which array of an .npz; by default arr_0, as samplers write it, or the only one of images.
    """
    try:
        images = _npz(path, column) if path.suffix.lower() == ".npz" else _npy(path)
    except Exception as error:
        raise unreadable(path, "a NumPy file", error) from None
    identity = f"{identity_of([path])} {column}"
    labels = partial(_labels_of_npz, path, column) if path.suffix.lower() == ".npz" else None
    return ArrayImages(str(path), channels_last(images), identity, size, channels, labels)


def is_images(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether an array is one of images."""
    return dtype == np.uint8 and (len(shape) == 3 or (len(shape) == 4 and bool({shape[1], shape[3]} & {1, 3, 4})))


def channels_last(images: np.ndarray) -> np.ndarray:
    """(N, H, W) or (N, H, W, C), of images that may have their channels before their rows."""
    if images.ndim == 4 and images.shape[3] not in (1, 3, 4):
        images = images.transpose(0, 2, 3, 1)
    return images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images


def _npy(path: Path) -> np.ndarray:
    images = np.load(path, mmap_mode="r", allow_pickle=False)
    if not is_images(images.shape, images.dtype):
        raise InputError(f"{path}: an array {_form(images.shape, images.dtype)}; images are (N, H, W, C) uint8")
    return images


def _npz(path: Path, column: str) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        heads = {m.filename.removesuffix(".npy"): (m, *_head(archive, m)) for m in archive.infolist()}
        images = [name for name, (_, shape, dtype, _) in heads.items() if is_images(shape, dtype)]
        names = ", ".join(f"{name} {_form(shape, dtype)}" for name, (_, shape, dtype, _) in heads.items())
        column = column or _column_of(images)
        if not column and images:
            raise InputError(
                f"{path}: several arrays hold images; name one as {path}#{images[0]}; its keys are {names}"
            )
        if column not in images:
            under = f" under {column}" if column else ""
            form = "which would be arr_0, (N, H, W, C) uint8"
            raise InputError(f"{path}: holds no images{under}, {form}; its keys are {names or 'none'}")
        member, shape, _, fortran = heads[column]
        if member.compress_type == zipfile.ZIP_STORED and not fortran:
            return _stored(path, member, shape)
        return _unpacked(path, archive, column, heads[column])


def _unpacked(path: Path, archive: zipfile.ZipFile, name: str, head: tuple) -> np.ndarray:
    """An array of an .npz in memory. Raises InputError where it would fill that."""
    member, shape, dtype, _ = head
    if (size := math.prod(shape) * dtype.itemsize) > UNPACKED:
        raise InputError(f"{path}: {name} would take {size:,} bytes of memory; save it as a .npy file")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def read_npz(path: Path, names: Collection[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Those of some arrays of numbers that an .npz holds, by name, and the names of all that it holds.

    Raises InputError where it is no such file, or an array is not of numbers, or would fill the memory.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: not a file")
    try:
        with zipfile.ZipFile(path) as archive:
            heads = {m.filename.removesuffix(".npy"): (m, *_head(archive, m)) for m in archive.infolist()}
            found = {name: _unpacked(path, archive, name, head) for name, head in heads.items() if name in names}
    except Exception as error:  # what damage provokes in zipfile, zlib and numpy
        raise unreadable(path, "an .npz file", error) from None
    for name, value in found.items():
        if value.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name} must be numbers; got {_form(value.shape, value.dtype)}")
    return found, list(heads)


def _column_of(images: list[str]) -> str:
    """The array of an .npz to take, of those of images; empty where it is not clear."""
    return "arr_0" if "arr_0" in images else images[0] if len(images) == 1 else ""


def _labels_of_npz(path: Path, column: str) -> Labels | None:
    """The labels beside the images of an .npz: arr_1 beside arr_0, as samplers write them, y_train beside x_train,
    train_labels beside train_images, or the only array that is named as labels are. (N,) or (N, 1) numbers or names.
    """
    with zipfile.ZipFile(path) as archive:
        heads = {m.filename.removesuffix(".npy"): (m, *_head(archive, m)) for m in archive.infolist()}
        column = column or _column_of([name for name, (_, shape, dtype, _) in heads.items() if is_images(shape, dtype)])
        partners = [re.sub(r"^x(?=$|_)", "y", column), column.replace("images", "labels"), "arr_1"]
        partners += [*NAMES] if column != "arr_0" or "arr_1" not in heads else []
        for name in partners:
            if name == column or name not in heads:
                continue
            member, shape, dtype, _ = heads[name]
            n = heads[column][1][0]
            if shape in ((n,), (n, 1)) and dtype.kind in "iuU":
                with archive.open(member) as file:
                    values = np.lib.format.read_array(file, allow_pickle=False).reshape(-1)
                return by_name(values.tolist()) if dtype.kind == "U" else by_number(values)
    return None


def _head(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Shape, type and whether columns come first, of one array of an .npz."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    return shape, dtype, fortran


def _stored(path: Path, member: zipfile.ZipInfo, shape: tuple[int, ...]) -> np.ndarray:
    """An array that lies uncompressed in a zip, mapped where it is: after two heads, at the end of its member."""
    with open(path, "rb") as file:
        file.seek(member.header_offset)
        name, extra = struct.unpack_from("<HH", file.read(30), 26)
    count = math.prod(shape)
    offset = member.header_offset + 30 + name + extra + member.file_size - count
    return np.memmap(path, np.uint8, "r", offset, shape) if count else np.zeros(shape, np.uint8)


def _form(shape: tuple[int, ...], dtype: np.dtype) -> str:
    return f"{shape} {dtype}".replace(",)", ")")


def idx(path: Path, split: str, size: int, channels: int) -> ArrayImages | None:
    """MNIST's form: an idx file of images, gzipped or not, or the folder that holds them. None where it is not that."""
    file = path
    if path.is_dir():
        patterns = [IDX.get(split, "no such split")] if split else IDX.values()
        names = sorted(f for f in path.iterdir() if f.is_file())
        files = [f for pattern in patterns for f in names if re.fullmatch(pattern, f.name)]
        if not files:
            return None
        if len({f.name.removesuffix(".gz") for f in files if re.fullmatch(patterns_of(files[0]), f.name)}) > 1:
            raise InputError(f"{path}: holds several sets of images; name one file, such as {files[0]}")
        file = files[0]
    elif split or not re.search(r"idx[34]-ubyte(\.gz)?$", path.name):
        return None
    try:
        images = _idx(file)
    except Exception as error:
        raise unreadable(file, "an idx file of images", error) from None
    identity, labels = identity_of([file]), partial(_labels_of_idx, file)
    return ArrayImages(str(file), channels_last(images), identity, size, channels, labels)


def patterns_of(file: Path) -> str:
    """The pattern of a split that a file's name follows."""
    return next(pattern for pattern in IDX.values() if re.fullmatch(pattern, file.name))


def _labels_of_idx(file: Path) -> Labels | None:
    """The labels in the idx file beside one of images, packed or not."""
    name = re.sub(r"idx[34]-ubyte(\.gz)?$", "idx1-ubyte", file.name.replace("images", "labels"))
    for path in (file.with_name(name), file.with_name(f"{name}.gz")):
        if path.is_file():
            try:
                return by_number(_idx(path, (1,)))
            except Exception as error:
                raise unreadable(path, "an idx file of labels", error) from None
    return None


def _idx(path: Path, expected: tuple[int, ...] = (3, 4)) -> np.ndarray:
    """Two zero bytes, 8 for bytes, the number of axes, each axis in four bytes, big-endian; then the bytes."""
    packed = path.suffix == ".gz"
    with (gzip.open if packed else open)(path, "rb") as file:
        zeros, kind, axes = struct.unpack(">HBB", file.read(4))
        if zeros or kind != 8 or axes not in expected:
            raise ValueError(f"its head is not that of {'labels' if expected == (1,) else 'images'}")
        shape = struct.unpack(f">{axes}I", file.read(4 * axes))
        count, offset = math.prod(shape), 4 + 4 * axes
        if not packed:
            if path.stat().st_size != offset + count:
                raise ValueError(f"it has {path.stat().st_size:,} bytes where its head says {offset + count:,}")
            return np.memmap(path, np.uint8, "r", offset, shape) if count else np.zeros(shape, np.uint8)
        if count > UNPACKED:
            raise ValueError(f"its head says {count:,} bytes; unpack it first")
        raw = file.read(count + 1)
    if len(raw) != count:
        raise ValueError(f"it has {len(raw):,} bytes of images where its head says {count:,}")
    return np.frombuffer(raw, np.uint8).reshape(shape)
