from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from ddim import images as data
from ddim.errors import InputError

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10" / "test.parquet"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))


def gradient(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A picture whose red rises to the right and green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    array = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), 0 * x], -1).astype(np.uint8)
    return Image.fromarray(array).convert(mode)


def test_digits_are_scikit_learns():
    pictures = data.load(data.find("digits", 8, 1))
    assert pictures.shape == (1797, 1, 8, 8)
    assert np.array_equal((pictures[:, 0].numpy() / 255 * 16).round(), load_digits().images)


def test_a_picture_of_the_right_size_is_kept_bit_for_bit():
    picture = gradient(16, 16)
    assert np.array_equal(data.fit(picture, 16, 3).permute(1, 2, 0).numpy(), np.array(picture))


def test_centre_crop_takes_the_middle():
    """A 48×16 picture with a red, a green and a blue third: its centre square is green."""
    wide = Image.new("RGB", (48, 16))
    for i, colour in enumerate(["red", "lime", "blue"]):
        wide.paste(colour, (16 * i, 0, 16 * i + 16, 16))
    assert (torch.tensor([0, 255, 0]) == data.fit(wide, 16, 3).flatten(1).T).all()
    assert (torch.tensor([0, 255, 0]) == data.fit(wide.rotate(90, expand=True), 16, 3).flatten(1).T).all()


def test_resizing_is_antialiased():
    """A one-pixel checkerboard shrinks to even grey, not to black or white."""
    board = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    small = data.fit(board, 8, 1).float()
    assert (small - 127.5).abs().max() < 3


def test_exif_orientation_is_honoured(tmp_path: Path):
    upright = gradient(16, 16)
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90° clockwise to see it upright"
    upright.rotate(90).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as stored:
        assert np.array_equal(data.fit(stored, 16, 3).permute(1, 2, 0).numpy(), np.array(upright))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "I"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_keeps_its_grey(mode: str, channels: int):
    """White, in any mode, is 255 in each channel; black is 0."""
    for colour, value in (("white", 255), ("black", 0)):
        if mode.startswith("I"):
            dtype = np.uint16 if mode == "I;16" else np.int32
            picture = Image.fromarray(np.full((8, 8), value * 257, dtype=dtype))
        else:
            picture = Image.new("RGB", (8, 8), colour).convert(mode)
        assert (data.fit(picture, 8, channels).float() - value).abs().max() <= 1, mode


def test_transparency_shows_white_behind():
    assert (data.fit(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), 8, 3) == 255).all()
    assert (data.fit(Image.new("RGBA", (8, 8), (255, 0, 0, 128)), 8, 3)[1].float() - 127).abs().max() <= 1


def test_a_nested_folder(tmp_path: Path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    gradient(20, 10).save(tmp_path / "in" / "deep" / "a.jpg")
    gradient(8, 8).save(tmp_path / "in" / "b.PNG")
    gradient(9, 30, "L").save(tmp_path / "in" / "c.webp")
    (tmp_path / "in" / "notes.txt").write_text("not a picture")
    pictures = data.load(data.find(str(tmp_path / "in"), 8, 3))
    assert pictures.shape == (3, 3, 8, 8)
    assert torch.equal(pictures[0], data.fit(gradient(8, 8), 8, 3))


def test_parquet_files_give_their_pictures(tmp_path: Path):
    """Encoded pictures as the `datasets` library writes them, and as plain binary."""
    import io

    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = [gradient(8, 8), gradient(8, 8).rotate(180)]
    datasets.Dataset.from_dict({"label": [0, 1], "img": pictures}).cast_column("img", datasets.Image()).to_parquet(
        tmp_path / "a.parquet"
    )
    cells = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "png")
        cells.append(buffer.getvalue())
    pq.write_table(pa.table({"data": pa.array(cells, pa.binary())}), tmp_path / "b.parquet")
    expected = torch.stack([data.fit(picture, 8, 3) for picture in pictures])
    for name in ("a", "b"):
        assert torch.equal(data.load(data.find(str(tmp_path / f"{name}.parquet"), 8, 3)), expected)


def test_a_hub_id_is_asked_for_its_train_split(monkeypatch):
    """A stand-in for the Hub: the id and the split are what `datasets` is asked for, its pictures what comes out."""
    import datasets

    asked = []

    def stand_in(path: str, split: str):
        asked.append((path, split))
        table = datasets.Dataset.from_dict({"image": [gradient(12, 8), gradient(8, 12)], "label": [0, 1]})
        return table.cast_column("image", datasets.Image())

    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    pictures = data.load(data.find("someone/pictures", 8, 3))
    assert asked == [("someone/pictures", "train")]
    assert torch.equal(pictures, torch.stack([data.fit(gradient(12, 8), 8, 3), data.fit(gradient(8, 12), 8, 3)]))


def test_the_cache_is_used_and_follows_the_pictures(tmp_path: Path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    gradient(8, 8).save(folder / "a.png")
    first = data.load(data.find(str(folder), 8, 3))
    with monkeypatch.context() as patch:
        patch.setattr("ddim.images.cache.decode_all", None)  # a second decoding would fail
        assert torch.equal(data.load(data.find(str(folder), 8, 3)), first)
    gradient(8, 8).rotate(180).save(folder / "b.png")
    assert len(data.load(data.find(str(folder), 8, 3))) == 2
    assert len(data.load(data.find(str(folder), 4, 3))[0, 0]) == 4


def test_a_damaged_cache_is_made_again(tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    gradient(8, 8).save(folder / "a.png")
    first = data.load(data.find(str(folder), 8, 3))
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_bytes(cached.read_bytes()[:50])
    assert torch.equal(data.load(data.find(str(folder), 8, 3)), first)
    assert len(cached.read_bytes()) > 50


@pytest.mark.parametrize("workers", [0, 2])
def test_a_large_set_streams_the_same_pictures(tmp_path: Path, monkeypatch, workers: int):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(7):
        gradient(8 + i, 8).save(folder / f"{i}.png")
    source = data.find(str(folder), 8, 3)
    kept = data.load(source)
    monkeypatch.setattr("ddim.images.cache.MEMORY", 100)
    streamed = data.load(source)
    assert streamed is source
    index = list(islice(data.order(7, 3, seed=1), 5))
    for a, b in zip(data.batches(kept, iter(index)), data.batches(streamed, iter(index), workers), strict=True):
        assert torch.equal(a, b)


def test_order_visits_every_picture_once_an_epoch():
    flat = [i for batch in islice(data.order(10, 4, seed=3), 15) for i in batch]
    for epoch in range(6):
        assert sorted(flat[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert flat[:10] != flat[10:20]
    assert flat[:40] != [i for batch in islice(data.order(10, 4, seed=4), 10) for i in batch]


@pytest.mark.parametrize(("n", "batch"), [(10, 4), (10, 10), (3, 8), (7, 1)])
def test_order_goes_on_anywhere(n: int, batch: int):
    whole = list(islice(data.order(n, batch, seed=3), 20))
    for first in (0, 1, 5, 13):
        assert list(islice(data.order(n, batch, seed=3, first=first), 20 - first)) == whole[first:]


def test_bytes_and_floats():
    """All 256 values survive the round trip; in between, rounding is to the nearest; outside, clamping."""
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(data.to_uint8(data.to_float(values)), values)
    assert data.to_float(values)[[0, 255]].tolist() == [-1, 1]
    assert data.to_uint8(torch.tensor([-9.0, -1, 0.004, 0.0, 1, 9])).tolist() == [0, 0, 128, 128, 255, 255]
    assert data.to_uint8(torch.tensor([10.6, 10.4]) / 127.5 - 1).tolist() == [11, 10]


def test_a_broken_picture_is_named_or_left_out(tmp_path: Path, capsys):
    for i in range(3):
        gradient(8, 8).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"1\.png: not a readable image"):
        data.load(data.find(str(tmp_path), 8, 3))
    assert len(data.load(data.find(str(tmp_path), 8, 3, skip_broken=True))) == 2
    assert "left out 1 of 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "--data"),
        ("no/such/folder", "no such folder"),
        ("nowhere.parquet", "no such"),
        ("empty", "holds no images"),
    ],
)
def test_bad_sources(tmp_path: Path, monkeypatch, source: str, words: str):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=words):
        data.find(source, 8, 3)


def test_files_that_are_no_tables(tmp_path: Path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 this is not parquet")
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as parquet"):
        data.find(str(tmp_path / "a.parquet"), 8, 3)
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(InputError, match="neither a folder"):
        data.find(str(tmp_path / "a.csv"), 8, 3)


@pytest.mark.skipif(not CIFAR.exists(), reason="the CIFAR-10 files are not at hand")
def test_cifar10_parquet():
    pictures = data.find(str(CIFAR), 32, 3)
    assert len(pictures) == 10_000
    some = torch.stack([pictures[i] for i in range(200)]).float()
    assert some.shape == (200, 3, 32, 32)
    assert 100 < some.mean() < 140  # the data set's mean is 121
    assert 50 < some.std() < 75  # and its deviation 64
