"""The forms in which people have images: parquet shards, arrays, webdatasets, MNIST's files; written, then read."""

import gzip
import io
import struct
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ddim import images as data
from ddim.errors import InputError
from ddim.images.sources import absolute


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.chdir(tmp_path)


def colours(n: int, size: int = 8, seed: int = 0) -> np.ndarray:
    """(n, size, size, 3) uint8, every pixel its own."""
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def encoded(image: np.ndarray, form: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form)
    return buffer.getvalue()


def read(source: str | Path, size: int = 8, channels: int = 3) -> np.ndarray:
    """All images of a source, (N, H, W, C)."""
    found = data.find(str(source), size, channels)
    return torch.stack([found[i] for i in range(len(found))]).permute(0, 2, 3, 1).numpy()


def refusal(source: str | Path) -> str:
    with pytest.raises(InputError) as caught:
        data.find(str(source), 8, 3)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def shard(path: Path, images: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": pa.array([{"bytes": encoded(image), "path": None} for image in images])}), path)


# Parquet


def test_a_folder_of_shards_has_the_splits_of_its_files(capsys):
    """The Hub's layout: `data/SPLIT-NUMBER-of-COUNT.parquet`; train, unless another split is named."""
    images = colours(7)
    shard(Path("set/data/train-00001-of-00002.parquet"), images[2:4])
    shard(Path("set/data/train-00000-of-00002.parquet"), images[:2])
    shard(Path("set/data/test-00000-of-00001.parquet"), images[4:])
    Path("set/README.md").write_text("# A set")
    Image.fromarray(images[0]).save("set/banner.png")  # what illustrates the page is not the set
    for source in ("set", "set/data", "set:train"):
        assert np.array_equal(read(source), images[:4])
    assert np.array_equal(read("set:test"), images[4:])
    assert refusal("set:validation") == "set: holds no split 'validation' but test, train; name one as set:SPLIT"
    assert not capsys.readouterr().err
    Path("set/data/train-00000-of-00002.parquet").unlink()
    assert np.array_equal(read("set"), images[2:4])
    assert "1 of 2 shards of train are here; the rest is not read" in capsys.readouterr().err


def test_shards_of_several_configurations_are_not_mixed():
    images = colours(4)
    shard(Path("set/full/train-00000-of-00001.parquet"), images[:2])
    shard(Path("set/cropped/train-00000-of-00001.parquet"), images[2:])
    assert refusal("set") == "set: train lies in several folders, cropped, full; name one of them"
    assert np.array_equal(read("set/cropped"), images[2:])


def test_the_hubs_converted_parquet_has_its_splits_in_folders():
    images = colours(3)
    shard(Path("set/default/train/0000.parquet"), images[:2])
    shard(Path("set/default/test/0000.parquet"), images[2:])
    assert np.array_equal(read("set"), images[:2])
    assert np.array_equal(read("set:test"), images[2:])


@pytest.mark.parametrize("name", ["faces [v2].parquet", "[a-z]*/x?.parquet", "a#b:test.parquet"])
def test_a_path_is_no_pattern(name: str):
    images = colours(2)
    shard(Path(name), images)
    assert np.array_equal(read(name), images)


def test_one_of_several_columns_is_named():
    """Columns of images; a binary column of something else is none, nor does a broken row of one hide another."""
    images, other = colours(3), colours(3, seed=1)
    cells = {
        "input": pa.array([encoded(image) for image in images], pa.binary()),
        "target": pa.array([encoded(image) for image in other], pa.binary()),
        "checksum": pa.array([b"1234", b"5678", b"9abc"], pa.binary()),
        "label": pa.array([1, 2, 3]),
    }
    pq.write_table(pa.table(cells), "pairs.parquet")
    assert refusal("pairs.parquet") == (
        "pairs.parquet: columns input, target hold images; name one as pairs.parquet#input"
    )
    assert np.array_equal(read("pairs.parquet#target"), other)
    assert np.array_equal(read("pairs.parquet#input"), images)
    assert "column checksum does not hold images; its columns are input, target" in refusal("pairs.parquet#checksum")
    cells.pop("target")
    pq.write_table(pa.table(cells), "one.parquet")
    assert np.array_equal(read("one.parquet"), images)
    pq.write_table(pa.table({"checksum": cells["checksum"]}), "none.parquet")
    assert refusal("none.parquet") == "none.parquet: no column holds images; its columns are checksum"


# Arrays


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_sample_batches(save):
    """`arr_0`, (N, H, W, C) uint8, plain or compressed, beside labels as guided-diffusion writes them."""
    images = colours(5)
    save("samples.npz", images, np.arange(5))
    assert np.array_equal(read("samples.npz"), images)
    save("grey.npz", images[..., :1])
    assert np.array_equal(read("grey.npz", channels=1), images[..., :1])


def test_arrays_of_an_npz_by_name():
    np.savez("plain.npz", colours(3))
    assert isinstance(data.find("plain.npz", 8, 3).images, np.memmap)
    np.savez("two.npz", x=np.arange(4), first=colours(3), second=colours(2, seed=1))
    assert np.array_equal(read("two.npz#second"), colours(2, seed=1))
    told = refusal("two.npz")
    assert told.startswith("two.npz: several arrays hold images; name one as two.npz#first; its keys are x (4) int64")
    assert "its keys are x (4) int64" in refusal("two.npz#x")
    np.savez("statistics.npz", mu=np.zeros(3), sigma=np.eye(3))
    assert "its keys are mu (3) float64, sigma (3, 3) float64" in refusal("statistics.npz")


def test_npy_files():
    images = colours(4)
    np.save("a.npy", images)
    np.save("first.npy", images.transpose(0, 3, 1, 2))  # channels before rows, as torch has them
    np.save("grey.npy", images[..., 0])
    assert np.array_equal(read("a.npy"), images)
    assert np.array_equal(read("first.npy"), images)
    assert np.array_equal(read("grey.npy", channels=1), images[..., :1])
    np.save("float.npy", images / 255)
    assert refusal("float.npy") == "float.npy: an array (4, 8, 8, 3) float64; images are (N, H, W, C) uint8"
    Path("cut.npy").write_bytes(Path("a.npy").read_bytes()[:300])
    assert refusal("cut.npy").startswith("cut.npy: truncated or not a NumPy file (")
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert refusal("objects.npy").startswith("objects.npy: ")


def idx(images: np.ndarray) -> bytes:
    """LeCun's form: 0, 0, 8 for bytes, the number of axes, each axis big-endian, the bytes."""
    return struct.pack(f">HBB{images.ndim}I", 0, 8, images.ndim, *images.shape) + images.tobytes()


def test_mnist_files():
    train, test = colours(3)[..., 0], colours(2, seed=1)[..., 0]
    Path("mnist").mkdir()
    Path("mnist/train-images-idx3-ubyte").write_bytes(idx(train))
    Path("mnist/train-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 3) + b"\1\2\3")
    with gzip.open("mnist/t10k-images-idx3-ubyte.gz", "wb") as file:
        file.write(idx(test))
    for source, images in (("mnist", train), ("mnist:train", train), ("mnist:test", test)):
        assert np.array_equal(read(source, channels=1)[..., 0], images)
    assert np.array_equal(read("mnist/t10k-images-idx3-ubyte.gz", channels=1)[..., 0], test)
    Path("cut-idx3-ubyte").write_bytes(idx(train)[:-5])
    assert "it has 203 bytes where its head says 208" in refusal("cut-idx3-ubyte")
    with gzip.open("large-idx3-ubyte.gz", "wb") as file:  # a head that asks for more memory than there is
        file.write(struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**15, 2**15))
    assert "unpack it first" in refusal("large-idx3-ubyte.gz")
    Path("labels-idx3-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 3) + b"\1\2\3")
    assert "its head is not that of images" in refusal("labels-idx3-ubyte")


# Webdatasets


def tar(path: str, files: dict[str, bytes], mode: str = "w") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_webdataset_shards():
    images = colours(4)
    tar("set/0000.tar", {"0.png": encoded(images[0]), "0.cls": b"3", "1.webp": b"", "1.json": b"{}", "._1.png": b"x"})
    tar("set/0001.tar", {"2.png": encoded(images[2]), "3.png": encoded(images[3]), "__MACOSX/3.png": b"x"})
    found = data.find("set", 8, 3)
    assert [found.name(i) for i in range(len(found))] == [
        "set/0000.tar/0.png", "set/0000.tar/1.webp", "set/0001.tar/2.png", "set/0001.tar/3.png",
    ]  # fmt: skip
    assert found.ignored == {".json": 1}
    with pytest.raises(InputError, match=r"set/0000\.tar/1\.webp: not a readable image"):
        found[1]
    assert np.array_equal(read("set/0001.tar"), images[2:])
    kept = data.load(data.find("set", 8, 3, skip_broken=True))
    assert np.array_equal(kept.permute(0, 2, 3, 1).numpy(), images[[0, 2, 3]])


def test_a_webdatasets_columns_are_named():
    images, other = colours(2), colours(2, seed=1)
    files = {}
    for k in range(2):
        files |= {f"{k}.input.png": encoded(images[k]), f"{k}.target.png": encoded(other[k])}
    tar("pairs.tar", files)
    assert "several images, input.png, target.png; name one as pairs.tar#input.png" in refusal("pairs.tar")
    assert np.array_equal(read("pairs.tar#target.png"), other)
    assert "no example has an image depth.png; there are input.png, target.png" in refusal("pairs.tar#depth.png")
    tar("dotted.tar", {"img.001.png": encoded(images[0]), "img.002.png": encoded(images[1])})
    assert np.array_equal(read("dotted.tar"), images)  # numbers behind a dot are no columns


def test_a_cut_tar():
    tar("a.tar", {"0.png": encoded(colours(1)[0]), "1.png": encoded(colours(1, 64)[0])})
    Path("cut.tar").write_bytes(Path("a.tar").read_bytes()[:4000])
    assert refusal("cut.tar").startswith("cut.tar: truncated or not an")


# Names


def test_what_has_no_splits_or_columns_says_so():
    images = colours(2)
    Path("in").mkdir()
    Image.fromarray(images[0]).save("in/0.png")
    np.save("a.npy", images)
    shard(Path("a.parquet"), images)
    assert refusal("a.npy:test") == "a.npy:test: a .npy file has no splits; leave out :test"
    assert refusal("a.parquet:test") == "a.parquet:test: a .parquet file has no splits; leave out :test"
    assert refusal("a.npy#x") == "a.npy#x: a .npy file has no columns; leave out #x"
    assert refusal("in#x") == "in#x: a folder of images has no columns; leave out #x"
    assert "in: holds no split 'test'" in refusal("in:test")


def test_a_source_from_every_directory(tmp_path: Path):
    shard(Path("a.parquet"), colours(1))
    assert absolute("a.parquet") == str(tmp_path / "a.parquet")
    assert absolute("a.parquet#image") == f"{tmp_path}/a.parquet#image"
    Path("set").mkdir()
    assert absolute("set:test#image") == f"{tmp_path}/set:test#image"
    assert absolute("digits") == "digits"
    assert absolute("someone/set:test") == "someone/set:test"


@pytest.mark.parametrize("source", ["x" * 300, "~nobody-of-this-name/x", "a\0b", "in/../nowhere", "/no:where#at"])
def test_names_of_nothing(source: str):
    assert "no such folder or file" in refusal(source)
