"""Tiny files in each published format, written here byte by byte, and read back pixel for pixel."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.command_line import refused

from ddim import images as data
from ddim.errors import InputError
from ddim.images import archives as published


def pictures(n: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """(n, height, width, 3) uint8, every pixel its own."""
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def cifar_bytes(images: np.ndarray) -> bytes:
    """Krizhevsky's layout: a label, then 1024 red, 1024 green, 1024 blue bytes, row by row."""
    out = b""
    for i, image in enumerate(images):
        out += bytes([i % 10])
        for channel in range(3):
            for row in range(32):
                out += bytes(image[row, column, channel] for column in range(32))
    return out


def stl_bytes(images: np.ndarray) -> bytes:
    """Coates' layout: all red, all green, all blue, each column by column."""
    out = b""
    for image in images:
        for channel in range(3):
            for column in range(96):
                out += bytes(image[row, column, channel] for row in range(96))
    return out


def tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def read(source: str | Path, size: int) -> np.ndarray:
    """All pictures of a source, (N, H, W, 3)."""
    found = data.find(str(source), size, 3)
    return torch.stack([found[i] for i in range(len(found))]).permute(0, 2, 3, 1).numpy()


@pytest.fixture
def cifar(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A folder of five training batches of two pictures, and a test batch of one."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    train, test = pictures(10, 32, 32), pictures(1, 32, 32, seed=1)
    for k in range(5):
        (folder / f"data_batch_{k + 1}.bin").write_bytes(cifar_bytes(train[2 * k : 2 * k + 2]))
    (folder / "test_batch.bin").write_bytes(cifar_bytes(test))
    (folder / "batches.meta.txt").write_text("airplane\n")
    return folder, train, test


def test_cifar10_binary(tmp_path: Path, cifar):
    folder, train, test = cifar
    inside = {f"cifar-10-batches-bin/{file.name}": file.read_bytes() for file in folder.iterdir()}
    archive = tar(tmp_path / "cifar-10-binary.tar.gz", inside)
    for source in (folder, archive):
        assert np.array_equal(read(source, 32), train)
        assert np.array_equal(read(f"{source}:train", 32), train)
        assert np.array_equal(read(f"{source}:test", 32), test)
    assert np.array_equal(read(folder / "test_batch.bin", 32), test)
    assert np.array_equal(read(folder / "data_batch_3.bin", 32), train[4:6])


def test_stl10_binary(tmp_path: Path):
    sets = {"train": pictures(2, 96, 96), "test": pictures(1, 96, 96, 1), "unlabeled": pictures(3, 96, 96, 2)}
    inside = {f"stl10_binary/{name}_X.bin": stl_bytes(images) for name, images in sets.items()}
    archive = tar(tmp_path / "stl10_binary.tar.gz", inside | {"stl10_binary/train_y.bin": b"\1\2"})
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for name, content in inside.items():
        (tmp_path / name).write_bytes(content)
    for source in (archive, folder):
        for split, images in sets.items():
            assert np.array_equal(read(f"{source}:{split}", 96), images)
        assert np.array_equal(read(source, 96), sets["unlabeled"])  # the large split is what one trains on
    assert np.array_equal(read(folder / "test_X.bin", 96), sets["test"])


def celeba(images: np.ndarray, folder: Path) -> None:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i + 1:06d}.png")


def test_celeba_has_the_papers_crop(tmp_path: Path):
    """Centre (89, 121) ± 64: rows 57 to 184, columns 25 to 152; at 128 it is kept as it is, at 64 resized."""
    images = pictures(2, 218, 178)
    folder = tmp_path / "img_align_celeba"
    celeba(images, folder)
    with zipfile.ZipFile(tmp_path / "img_align_celeba.zip", "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"img_align_celeba/{file.name}")
    expected = images[:, 121 - 64 : 121 + 64, 89 - 64 : 89 + 64]
    for source in (folder, tmp_path / "img_align_celeba.zip"):
        assert np.array_equal(read(source, 128), expected)
        small = Image.fromarray(expected[0]).resize((64, 64), Image.Resampling.LANCZOS)
        assert np.array_equal(read(source, 64)[0], np.array(small))
    other = tmp_path / "faces"
    celeba(images, other)  # by any other name, the centre square
    assert np.array_equal(read(other, 178), images[:, 20:198])


def test_a_zip_of_pictures(tmp_path: Path):
    images = pictures(3, 16, 16)
    celeba(images, tmp_path / "in" / "deep")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in (tmp_path / "in" / "deep").iterdir():
            archive.write(file, f"deep/{file.name}")
        archive.writestr("__MACOSX/deep/000001.png", "not a picture")
    assert np.array_equal(read(tmp_path / "a.zip", 16), images)


@pytest.mark.parametrize("workers", [0, 2])
def test_lsun_lmdb(tmp_path: Path, monkeypatch, workers: int):
    """Encoded pictures under their keys; also from worker processes, which open the database themselves."""
    lmdb = pytest.importorskip("lmdb")
    images = pictures(5, 20, 16)
    database = lmdb.open(str(tmp_path / "church_outdoor_train_lmdb"), map_size=2**24)
    with database.begin(write=True) as transaction:
        for i, image in enumerate(images):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "webp", lossless=True)
            transaction.put(f"{i:040x}".encode(), buffer.getvalue())
    database.close()
    source = tmp_path / "church_outdoor_train_lmdb"
    expected = images[:, 2:18]  # the centre square
    assert np.array_equal(read(source, 16), expected)
    monkeypatch.setattr("ddim.images.cache.MEMORY", 1)
    (batch,) = data.batches(data.load(data.find(str(source), 16, 3)), iter([[4, 0]]), workers)
    assert np.array_equal(batch.permute(0, 2, 3, 1).numpy(), expected[[4, 0]])


def test_damaged_archives(tmp_path: Path, cifar):
    folder, _, _ = cifar
    with open(folder / "data_batch_2.bin", "ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match=r"data_batch_2\.bin: truncated: its 6150 bytes are no multiple of 3073"):
        data.find(str(folder), 32, 3)
    archive = tar(tmp_path / "stl10_binary.tar.gz", {"stl10_binary/train_X.bin": stl_bytes(pictures(1, 96, 96))})
    archive.write_bytes(archive.read_bytes()[:5000])
    for name, content, words in [
        ("stl10_binary.tar.gz", None, "truncated or not an archive"),
        ("a.zip", b"PK\3\4 nothing more", "truncated or not a zip"),
        ("b.tar.gz", b"nothing", "truncated or not an archive"),
    ]:
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=words):
            data.find(str(tmp_path / name), 32, 3)
    with pytest.raises(InputError, match="no split 'unlabeled' of CIFAR-10 or STL-10"):
        data.find(f"{folder}:unlabeled", 32, 3)


def test_an_archive_of_something_else(tmp_path: Path):
    archive = tar(tmp_path / "other.tar.gz", {"notes.txt": b"hello"})
    with pytest.raises(InputError, match="nor an archive that is known"):
        data.find(str(archive), 32, 3)
    assert published.published(archive, "", 32, 3) is None


def test_ddim_data_tells_what_is_there(tmp_path: Path, ddim_cli, cifar):
    folder, _, _ = cifar
    result = ddim_cli("data", folder)
    assert result.returncode == 0, result.stderr
    assert "pictures  10, read as ArrayImages" in result.stdout
    assert "32×32 (10)" in result.stdout
    celeba(pictures(3, 20, 30), tmp_path / "in")
    (tmp_path / "in" / "000002.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    result = ddim_cli("data", "in", "--out", "some.png")
    assert "pictures  3, read as Folder" in result.stdout
    assert "30×20 (2)" in result.stdout
    assert "broken    1: in/000002.png" in result.stdout
    with Image.open(tmp_path / "some.png") as grid:
        assert min(grid.size) > 64
    refused(ddim_cli("data", "nowhere"), "nowhere: no such folder")
