"""The classes of images, told by each form in which people have them."""

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ddim import images as data
from ddim.errors import InputError
from ddim.images.batches import numbered
from ddim.images.cache import load_numbered

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.chdir(tmp_path)


def png(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(buffer, "png")
    return buffer.getvalue()


def told(source: str, **how) -> tuple[tuple[str, ...], list[int]] | None:
    found = data.find(source, 8, 3, **how).labels
    return found and (found.classes, found.numbers.tolist())


def by_name(source: str) -> dict[str, str]:
    """What each image's class is called."""
    found = data.find(source, 8, 3)
    return {found.name(i): found.labels.classes[k] for i, k in enumerate(found.labels.numbers)}


def write(files: dict[str, bytes]) -> None:
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)


TREES = {
    "class folders": (["dog/1.png", "cat/1.png", "cat/2.png"], {"cat": 2, "dog": 1}),
    "deeper ones": (["cat/2020/1.png", "dog/2021/may/1.png"], {"cat": 1, "dog": 1}),
    "below a folder of their own": (["set/cat/1.png", "set/dog/1.png", "set/dog/2.png"], {"cat": 1, "dog": 2}),
    "in splits": (["train/cat/1.png", "train/dog/1.png", "test/dog/1.png"], {"cat": 1, "dog": 2}),
    "no folders": (["1.png", "2.png"], None),
    "one folder": (["cat/1.png", "cat/2.png"], None),
    "an image outside": (["cat/1.png", "dog/1.png", "2.png"], None),
}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("tree", TREES)
def test_class_folders(kind: str, tree: str):
    names, counts = TREES[tree]
    files = {name: png(k) for k, name in enumerate(names)}
    if kind == "folder":
        write({f"data/{name}": content for name, content in files.items()})
        source = "data"
    elif kind == "zip":
        source = "data.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        source = "data.tar"
        with tarfile.open(source, "w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    found = data.find(source, 8, 3).labels
    assert (found and dict(zip(found.classes, found.counts(), strict=True))) == counts
    if counts:
        assert all(f"/{name}/" in path for path, name in by_name(source).items())


def test_numbers_beside_the_images_of_a_webdataset():
    with tarfile.open("set.tar", "w") as archive:
        for name, content in {"0.png": png(), "0.cls": b"7", "1.png": png(1), "1.cls": b"2\n", "2.png": png()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert told("set.tar") == (("2", "7"), [1, 0, -1])


def table(name: str, column: str, values, feature=None) -> None:
    features = {"image": datasets.Image()} | ({column: feature} if feature else {})
    rows = {"image": [{"bytes": png(k), "path": None} for k in range(len(values))], column: values}
    if feature:
        datasets.Dataset.from_dict(rows, datasets.Features(features)).to_parquet(name)
    else:
        pq.write_table(pa.table(rows), name)


def test_a_column_of_labels():
    table("named.parquet", "label", [2, 0, 2, -1], datasets.ClassLabel(names=["ant", "bee", "cow"]))
    assert told("named.parquet") == (("ant", "bee", "cow"), [2, 0, 2, -1])
    table("numbers.parquet", "labels", [5, 3, None, 5])
    assert told("numbers.parquet") == (("3", "5"), [1, 0, -1, 1])
    table("texts.parquet", "class", ["dog", "cat", None, "dog"])
    assert told("texts.parquet") == (("cat", "dog"), [1, 0, -1, 1])
    table("truths.parquet", "target", [True, False])
    assert told("truths.parquet") == (("false", "true"), [1, 0])
    table("floats.parquet", "label", [0.5, 0.25])
    assert told("floats.parquet") is None
    table("captions.parquet", "caption", ["a dog", "a cat"])
    assert told("captions.parquet") is None


def test_shards_of_a_table_keep_names():
    Path("set").mkdir()
    for k, values in enumerate(([1, 0], [1])):
        table(f"set/train-{k:05d}-of-00002.parquet", "label", values, datasets.ClassLabel(names=["ant", "bee"]))
    assert told("set") == (("ant", "bee"), [1, 0, 1])


def test_cifar10_has_its_labels_and_names():
    records = {1: [3, 9], 2: [0, 1], 3: [8, 8], 4: [2, 2], 5: [7, 6]}
    write({f"c/data_batch_{k}.bin": b"".join(bytes([n]) + bytes(3072) for n in v) for k, v in records.items()})
    write({"c/test_batch.bin": bytes([5]) + bytes(3072)})
    assert told("c") == (CIFAR10, [3, 9, 0, 1, 8, 8, 2, 2, 7, 6])
    assert told("c:test") == (CIFAR10, [5])
    with tarfile.open("cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add("c", "cifar-10-batches-bin")
    assert told("cifar-10-binary.tar.gz") == (CIFAR10, [3, 9, 0, 1, 8, 8, 2, 2, 7, 6])
    assert told("c/data_batch_3.bin") == (CIFAR10, [8, 8])


def test_stl10_has_its_labels_and_names():
    """Numbered from 1, in files of their own; the images of the split without labels have none."""
    write(
        {"s/train_X.bin": bytes(2 * 3 * 96 * 96), "s/train_y.bin": bytes([10, 1]), "s/test_X.bin": bytes(3 * 96 * 96)}
    )
    write({"s/test_y.bin": bytes([4])})
    assert told("s:train") == told("s") == (STL10, [9, 0])
    assert told("s:test") == told("s/test_X.bin") == (STL10, [3])
    with tarfile.open("stl10_binary.tar.gz", "w:gz") as archive:
        archive.add("s", "stl10_binary")
    assert told("stl10_binary.tar.gz:train") == (STL10, [9, 0])
    write({"u/unlabeled_X.bin": bytes(3 * 96 * 96)})
    assert told("u") is None
    write({"s/train_y.bin": bytes([1])})
    with pytest.raises(InputError, match="s: has 1 labels for 2 images"):
        told("s:train")


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


@pytest.mark.parametrize("packed", [True, False])
def test_mnists_labels(packed: bool):
    pack, end = (gzip.compress, ".gz") if packed else (bytes, "")
    write({f"m/train-images-idx3-ubyte{end}": pack(idx(np.zeros((3, 8, 8))))})
    assert told("m") is None
    write({f"m/train-labels-idx1-ubyte{end}": pack(idx(np.array([7, 0, 7])))})
    write({f"m/t10k-images-idx3-ubyte{end}": pack(idx(np.zeros((2, 8, 8))))})
    write({f"m/t10k-labels-idx1-ubyte{end}": pack(idx(np.array([1, 2])))})
    assert told("m") == told(f"m/train-images-idx3-ubyte{end}") == (("0", "7"), [1, 0, 1])
    assert told("m:test") == (("1", "2"), [0, 1])
    write({f"m/t10k-labels-idx1-ubyte{end}": b"12"})
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte.*: truncated or not an idx file of labels"):
        told("m:test")


ARRAYS = {
    "a sampler's": {"arr_0": "images", "arr_1": [4, 1]},
    "keras's": {"x_train": "images", "y_train": [4, 1]},
    "medmnist's": {"train_images": "images", "train_labels": [[4], [1]]},
    "plain": {"images": "images", "label": [4, 1]},
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_labels_beside_an_array(kind: str):
    zeros = np.zeros((2, 8, 8, 3), np.uint8)
    np.savez("a.npz", **{name: zeros if v == "images" else np.array(v) for name, v in ARRAYS[kind].items()})
    assert told("a.npz") == (("1", "4"), [1, 0])


def test_arrays_that_are_no_labels():
    zeros = np.zeros((2, 8, 8, 3), np.uint8)
    np.savez("a.npz", images=zeros, y=np.array([0.5, 1]), label=np.array([1, 2, 3]))
    assert told("a.npz") is None
    np.savez("b.npz", images=zeros, y=np.array(["dog", "cat"]))
    assert told("b.npz") == (("cat", "dog"), [1, 0])
    np.save("c.npy", zeros)
    assert told("c.npy") is None


def test_the_embedded_digits():
    classes, numbers = told("digits")
    assert classes == tuple("0123456789")
    assert np.bincount(numbers).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as published


def test_which_images_are_kept_is_told_beside_them_also_from_the_cache():
    write({"data/a/1.png": png(1), "data/a/2.png": b"broken", "data/b/1.png": png(3)})
    for _ in range(2):
        held, numbers = load_numbered(data.find("data", 8, 3, skip_broken=True))
        assert numbers.tolist() == [0, 2]
        assert held[:, 0, 0, 0].tolist() == [1, 3]
    streamed = numbered(data.find("data", 8, 3, skip_broken=True), iter([[1, 0, 2]]))
    images, numbers = next(iter(streamed))
    assert numbers.tolist() == [2, 0, 2]  # the broken one's place is taken
    assert images[:, 0, 0, 0].tolist() == [3, 1, 3]


def test_transparency_is_white_and_keeps_its_class():
    Path("data/a").mkdir(parents=True)
    Path("data/b").mkdir()
    for name, alpha in (("a", 0), ("b", 255)):
        Image.new("RGBA", (8, 8), (200, 0, 0, alpha)).save(f"data/{name}/1.png")
    found = data.find("data", 8, 3)
    assert [found[i][:, 0, 0].tolist() for i in range(2)] == [[255, 255, 255], [200, 0, 0]]
    assert told("data") == (("a", "b"), [0, 1])


def test_ddim_data_counts_the_classes(ddim_cli, tmp_path):
    write({f"data/{name}/{k}.png": png(k) for name, n in (("cat", 3), ("dog", 1)) for k in range(n)})
    result = ddim_cli("data", "data")
    assert result.returncode == 0, result.stderr
    assert "classes   2: cat (3), dog (1)\n" in result.stdout
    assert "classes   none: no class folders" in ddim_cli("data", "data/cat").stdout
