"""What is broken, odd or hostile: one item, one line, skipped on request; `ddim data` and training agree."""

import gzip
import io
import os
import random
import struct
import tarfile
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from support.command_line import refused

from ddim import images as data
from ddim.errors import InputError


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def encoded(image: Image.Image, form: str = "png", **how) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **how)
    return buffer.getvalue()


def noise(seed: int = 0, size: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def agreed(source: str, good: int, broken: list[str], words: str) -> None:
    """The set has so many good images and these broken ones: for `summarise`, for `load`, and by itself."""
    found = data.summarise(source, 8)
    assert found.broken == broken
    assert sum(found.sizes.values()) == good
    assert len(data.load(data.find(source, 8, 3, skip_broken=True))) == good
    with pytest.raises(InputError) as caught:
        data.load(data.find(source, 8, 3))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{broken[0]}: not a readable image (")


def broken_orientation() -> bytes:
    """A JPEG whose EXIF says that the orientation is a text."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHI4s", 0x0112, 2, 4, b"up\0\0") + b"\0\0\0\0"
    return encoded(noise(), "jpeg", exif=exif)


def cut(form: str) -> bytes:
    whole = encoded(noise(size=64), form)
    return whole[: len(whole) // 2]


def flipped(form: str) -> bytes:
    whole = bytearray(encoded(noise(size=64), form))
    middle = len(whole) // 2
    whole[middle : middle + 40] = bytes(b ^ 255 for b in whole[middle : middle + 40])
    return bytes(whole)


def tiff(samples: np.ndarray) -> bytes:
    return encoded(Image.fromarray(samples), "tiff")


BROKEN = {
    "bomb.png": (lambda: encoded(Image.new("1", (20000, 10000))), "decompression bomb"),
    "cut.png": (lambda: cut("png"), "truncated"),
    "cut.jpg": (lambda: cut("jpeg"), "truncated"),
    "cut.webp": (lambda: cut("webp"), "("),
    "cut.avif": (lambda: cut("avif"), "("),
    "flipped.png": (lambda: flipped("png"), "("),
    "empty.gif": (lambda: b"", "cannot be identified"),
    "text.bmp": (lambda: b"BMP, but not really", "("),
    "negative.tiff": (lambda: tiff(np.full((8, 8), -2, np.float32)), "from -2 to -2 are neither"),
    "nan.tiff": (lambda: tiff(np.full((8, 8), np.nan, np.float32)), "not finite"),
    "metres.tiff": (lambda: tiff(np.linspace(0, 9.5, 64, dtype=np.float32).reshape(8, 8)), "from 0 to 9.5 are neither"),
    "bytes.tiff": (lambda: tiff(np.arange(64, dtype=np.int32).reshape(8, 8)), "from 0 to 63 are not of 16 bits"),
    "below.tiff": (lambda: tiff(np.linspace(-5, 60000, 64).astype(np.int32).reshape(8, 8)), "from -5 to 60000 are not"),
    "twelve.tiff": (lambda: tiff(np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)), "from 0 to 4095 are not"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_broken_item(name: str):
    make, words = BROKEN[name]
    Path("in").mkdir()
    for i in range(2):
        noise(i).save(f"in/{i}.png")
    Path("in", name).write_bytes(make())
    agreed("in", 2, [f"in/{name}"], words)


def test_only_the_orientation_of_exif_is_read_and_a_broken_one_is_none():
    Path("in").mkdir()
    Path("in/a.jpg").write_bytes(broken_orientation())
    with Image.open("in/a.jpg") as image:
        assert torch.equal(data.find("in", 16, 3)[0], data.fit(image, 16, 3))
    assert data.summarise("in").broken == []


def test_sizes_are_those_after_exif_rotation():
    exif = Image.Exif()
    exif[0x0112] = 6
    Path("in").mkdir()
    Image.new("RGB", (30, 20)).save("in/turned.jpg", exif=exif)
    Image.new("RGB", (30, 20)).save("in/plain.jpg")
    assert data.summarise("in").sizes == {(20, 30): 1, (30, 20): 1}


@pytest.mark.parametrize("largest", [1, 255])
def test_floats_in_0_to_1_and_in_0_to_255(largest: int):
    ramp = np.linspace(0, largest, 256, dtype=np.float32).reshape(16, 16)
    Path("in").mkdir()
    Image.fromarray(ramp).save("in/ramp.tiff")
    assert data.find("in", 16, 1)[0].flatten().tolist() == list(range(256))


def test_warnings_of_pillow_are_no_lines(recwarn, monkeypatch):
    """A large image warns; decoded on several threads, they leave the process's filters as they were."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # 256 warn, above 400 is an error
    Path("in").mkdir()
    for i in range(50):
        noise(i).save(f"in/{i}.png")
    before = list(warnings.filters)
    assert len(data.load(data.find("in", 8, 3))) == 50
    assert not [w for w in recwarn if "decompression" in str(w.message).lower()]
    assert warnings.filters == before
    with Image.open("in/0.png"):
        assert "decompression bomb" in str(recwarn.pop(Image.DecompressionBombWarning).message)


def test_where_no_image_can_be_read_there_is_one_line(ddim_cli):
    """Of `data`, whose bar is at its end by then, and of what leaves broken ones out."""
    Path("in").mkdir()
    Path("in/a.png").write_bytes(b"nothing")
    refused(ddim_cli("data", "in"), "in: none of its 1 images can be read")
    for verb in ("encode", "reconstruct"):
        result = ddim_cli(verb, "digits", "in", "--steps", 2, "--skip-broken")
        refused(result, "in/a.png: none of the 1 images can be read")
    result = ddim_cli("train", "digits", "--data", "in", "--skip-broken", "--steps", 1, "--out", "run")
    refused(result, "in/a.png: none of the 1 images can be read")


def test_a_broken_table_is_one_line_without_the_librarys_own(ddim_process):
    Path("p.parquet").write_bytes(b"PAR1 no table PAR1")
    refused(ddim_process("data", "p.parquet"), "p.parquet: cannot be read as parquet (")


# Folders


def test_links_to_folders_are_followed_once():
    Path("disk/deep").mkdir(parents=True)
    Path("set").mkdir()
    noise(0).save("disk/0.png")
    noise(1).save("disk/deep/1.png")
    noise(2).save("set/own.png")
    Path("set/more").symlink_to(Path("disk").resolve())
    Path("disk/deep/back").symlink_to(Path("set").resolve())  # a circle
    Path("set/nothing.png").symlink_to("gone.png")
    found = data.find("set", 16, 3)
    assert [found.name(i) for i in range(len(found))] == ["set/more/0.png", "set/more/deep/1.png", "set/own.png"]
    assert torch.equal(found[0], data.fit(noise(0), 16, 3))


def test_what_is_passed_over_is_said(tmp_path: Path, ddim_cli):
    Path("in/__MACOSX").mkdir(parents=True)
    noise(0).save("in/0.png")
    for name in ("a.heic", "b.HEIC", "notes.txt", "page.pdf", ".hidden", "__MACOSX/1.png"):
        Path("in", name).write_bytes(b"something")
    Path("in/._0.png").write_bytes(b"a resource of macOS")
    found = data.summarise("in")
    assert (found.n, found.broken) == (1, [])
    assert found.ignored == {".heic": 2, ".txt": 1, ".pdf": 1}
    line = "ignored   .heic (2), .txt (1), .pdf (1): not images that can be read here; convert"
    assert line in ddim_cli("data", "in", "--size", 8).stdout
    small = ("--size", 8, "--channels", 1, "--steps", 1, "--batch-size", 1)
    result = ddim_cli("train", "digits", "--data", "in", "--out", "run", *small)
    assert result.returncode == 0, result.stderr
    assert "in: not read: .heic (2), .txt (1), .pdf (1): not images" in result.stderr
    os.remove("in/0.png")
    refused(ddim_cli("data", "in"), "in: holds no images (only .heic, .pdf, .txt)")


@pytest.mark.parametrize("name", ["pipe.png", "pipe.zip", "pipe.parquet", "pipe"])
def test_pipes_and_devices_are_refused_at_once(name: str):
    os.mkfifo(name)
    for source in (name, "/dev/zero"):
        with pytest.raises(InputError, match="neither a file nor a folder"):
            data.find(source, 8, 3)
        with pytest.raises(InputError, match="neither a file nor a folder"):
            data.Selection([source], (3, 8, 8))
    Path("in").mkdir()
    os.mkfifo(f"in/{name}")
    noise(0).save("in/0.png")
    assert len(data.find("in", 8, 3)) == 1


# Tables


def test_empty_and_broken_cells():
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [
        {"bytes": encoded(noise(0)), "path": None},
        {"bytes": None, "path": None},
        None,
        {"bytes": b"no image", "path": "x.png"},
        {"bytes": None, "path": "/dev/zero"},
        {"bytes": encoded(noise(1)), "path": None},
    ]
    pq.write_table(pa.table({"image": pa.array(cells, kind)}), "p.parquet")
    agreed("p.parquet", 2, [f"p.parquet, row {i}" for i in (1, 2, 3, 4)], "empty cell")


# Zips


def each(raw: bytearray, sign: bytes, offset: int, change) -> None:
    at = -1
    while (at := raw.find(sign, at + 1)) >= 0:
        raw[at + offset] = change(raw[at + offset])


def zipped() -> bytearray:
    with zipfile.ZipFile("good.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"{i}.bmp", encoded(noise(i), "bmp"))
        archive.writestr("folder.png/", "")
        archive.writestr("deep/__MACOSX/0.png", "a resource")
        archive.writestr("deep/._0.png", "a resource")
        archive.writestr("notes.txt", "notes")
    return bytearray(Path("good.zip").read_bytes())


def test_a_damaged_member_of_a_zip():
    raw = zipped()
    assert data.find("good.zip", 8, 3).ignored == {".txt": 1}
    at = zipfile.ZipFile("good.zip").infolist()[1].header_offset
    raw[at + 40 : at + 70] = bytes(b ^ 255 for b in raw[at + 40 : at + 70])
    Path("a.zip").write_bytes(raw)
    agreed("a.zip", 2, ["a.zip/1.bmp"], "(")


@pytest.mark.parametrize(("what", "local", "central", "words"), [
    ("encrypted", (6, lambda b: b | 1), (8, lambda b: b | 1), "encrypted"),
    ("deflate64", (8, lambda b: 9), (10, lambda b: 9), "compression"),
])  # fmt: skip
def test_zips_that_cannot_be_unpacked(what: str, local, central, words: str):
    raw = zipped()
    each(raw, b"PK\3\4", *local)
    each(raw, b"PK\1\2", *central)
    Path("a.zip").write_bytes(raw)
    with pytest.raises(InputError, match=rf"a\.zip/0\.bmp: not a readable image \(.*{words}"):
        data.load(data.find("a.zip", 8, 3))
    with pytest.raises(InputError, match=r"a\.zip: none of its 3 images can be read"):
        data.summarise("a.zip")


def test_a_member_cannot_fill_the_memory(monkeypatch):
    with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", encoded(noise()))
        archive.writestr("1.bmp", bytes(2**22))
    monkeypatch.setattr("ddim.images.files.ENCODED", 2**20)
    monkeypatch.setattr(zipfile.ZipFile, "read", read_small(zipfile.ZipFile.read))
    agreed("a.zip", 1, ["a.zip/1.bmp"], "its 4,194,304 bytes are more than the 1,048,576")


def read_small(read):
    """What reads a member of a zip, to fail if it is given the large one."""

    def checked(archive: zipfile.ZipFile, name: str) -> bytes:
        assert archive.getinfo(name).file_size < 2**20
        return read(archive, name)

    return checked


# Lmdb and worker processes


def test_a_cut_lmdb_is_refused_before_it_is_opened():
    """Opened, its missing end would kill the process by SIGBUS."""
    lmdb = pytest.importorskip("lmdb")
    database = lmdb.open("db", map_size=2**24)
    with database.begin(write=True) as transaction:
        for i in range(20):
            transaction.put(f"{i:05d}".encode(), encoded(noise(i, 32)))
    database.close()
    assert len(data.find("db", 8, 3)) == len(data.find("db", 8, 3)) == 20  # twice in one process, too
    whole = Path("db/data.mdb").read_bytes()
    for kept, words in [(len(whole) - 4096, "truncated: it has"), (8192, "truncated: it has"), (100, "not lmdb")]:
        Path(f"cut{kept}").mkdir()
        Path(f"cut{kept}/data.mdb").write_bytes(whole[:kept])
        with pytest.raises(InputError, match=rf"cut{kept}/data\.mdb: .*{words}"):
            data.find(f"cut{kept}", 8, 3)


def lmdb_of(where: str, n: int) -> Path:
    """An lmdb of n images; its file."""
    database = pytest.importorskip("lmdb").open(where, map_size=2**24)
    with database.begin(write=True) as transaction:
        for i in range(n):
            transaction.put(f"{i:05d}".encode(), encoded(noise(i, 32)))
    database.close()
    return Path(where, "data.mdb")


def test_an_lmdb_that_kills_its_reader_is_refused():
    """The length of a value is damaged, so it ends behind the end of the mapped file."""
    whole = bytearray(lmdb_of("db", 3).read_bytes())
    node = whole.index(b"00001") - 8  # length of the value (2 × 2 bytes), flags, length of the key
    assert int.from_bytes(whole[node + 6 : node + 8], "little") == 5
    whole[node : node + 4] = (2**24).to_bytes(4, "little")
    Path("damaged").mkdir()
    Path("damaged/data.mdb").write_bytes(whole)
    with pytest.raises(InputError, match=r"^damaged: damaged: reading it kills a process by SIG\w+; copy it again$"):
        data.find("damaged", 8, 3)
    images = data.find("db", 8, 3)
    assert [images.name(i) for i in range(len(images))] == ["db, key 00000", "db, key 00001", "db, key 00002"]
    assert torch.equal(images[2], data.fit(noise(2, 32), 8, 3))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_links_to_nothing_and_pipes_are_mentioned(ddim_cli):
    Path("in").mkdir()
    noise(0).save("in/0.png")
    os.mkfifo("in/pipe.png")
    Path("in/gone.png").symlink_to("nowhere.png")
    Path("in/folder").symlink_to("nowhere")
    found = data.summarise("in")
    assert found.n == 1
    assert found.ignored == {"links to nothing": 2, "pipes and devices": 1}


def test_links_within_a_tar_are_the_images_that_they_lead_to():
    noise(0).save("a.png")
    os.link("a.png", "hard.png")
    Path("soft.png").symlink_to("a.png")
    Path("gone.png").symlink_to("b.png")
    with tarfile.open("t.tar", "w") as archive:
        for name in ("a.png", "hard.png", "soft.png", "gone.png"):
            archive.add(name)
        kinds = [member.isfile() for member in archive]
    assert kinds == [True, False, False, False]
    images = data.find("t.tar", 16, 3)
    assert [images.name(i) for i in range(len(images))] == ["t.tar/a.png", "t.tar/hard.png", "t.tar/soft.png"]
    assert torch.equal(images[1], images[0])
    assert torch.equal(images[2], images[0])
    assert images.ignored == {"links to nothing": 1}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_in_a_worker_process_is_one_line(monkeypatch, workers: int):
    Path("in").mkdir()
    for i in range(4):
        noise(i).save(f"in/{i}.png")
    Path("in/2.png").write_bytes(b"nothing")
    monkeypatch.setattr("ddim.images.cache.MEMORY", 1)
    found = data.load(data.find("in", 8, 3))
    with pytest.raises(InputError) as caught:
        list(data.batches(found, iter([[0, 1], [2, 3]]), workers))
    assert str(caught.value) == (
        "in/2.png: not a readable image (cannot be identified); remove it or pass --skip-broken"
    )
    kept = data.batches(data.load(data.find("in", 8, 3, skip_broken=True)), iter([[2, 3]]), workers)
    assert torch.equal(next(kept)[0], data.fit(noise(3), 8, 3))  # the next good one takes its place


class Dying(data.ImageSet):
    """A set whose second image ends the process that decodes it."""

    def open(self, i: int) -> Image.Image:
        if i == 1:
            os._exit(1)
        return noise(i)

    def name(self, i: int) -> str:
        return f"image {i}"

    def __len__(self) -> int:
        return 2


def test_a_worker_process_that_ends_is_one_line():
    with pytest.raises(InputError, match="a process that decodes images has ended") as caught:
        list(data.batches(Dying(8, 3), iter([[0, 1]]), 1))
    assert "\n" not in str(caught.value)


# Binary archives


@pytest.mark.parametrize(("size", "words"), [
    (0, "truncated: its 0 bytes"),
    (3072, "truncated: its 3072 bytes"),
    (3073 * 60_001, "are more than the 60,000 images"),
])  # fmt: skip
def test_binary_archives_of_the_wrong_size_are_not_read(size: int, words: str):
    with open("data_batch_1.bin", "wb") as file:
        file.truncate(size)
    with pytest.raises(InputError, match=words):
        data.find("data_batch_1.bin", 32, 3)


# All forms


def forms() -> list[Path]:
    """A small file of each form."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    np.savez("plain.npz", pixels)
    np.savez_compressed("packed.npz", pixels)
    np.save("a.npy", pixels)
    head = struct.pack(">HBB3I", 0, 8, 3, 3, 16, 16) + pixels[..., 0].tobytes()
    Path("a-idx3-ubyte").write_bytes(head)
    Path("a-idx3-ubyte.gz").write_bytes(gzip.compress(head))
    zipped()
    for name, files in [("a.tar", {f"{i}.png": encoded(noise(i)) for i in range(3)}),
                        ("a.tar.gz", {"data_batch_1.bin": bytes(2 * 3073)})]:  # fmt: skip
        with tarfile.open(name, "w:gz" if name.endswith("gz") else "w") as archive:
            for inside, content in files.items():
                member = tarfile.TarInfo(inside)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    pq.write_table(pa.table({"image": pa.array([encoded(noise(i)) for i in range(3)], pa.binary())}), "a.parquet")
    return sorted(path for path in Path().iterdir() if path.is_file())


def mutant(raw: bytearray, rng: random.Random) -> bytearray:
    """Cut, some bits turned, a hole of zeros, or another head."""
    at = rng.randrange(len(raw))
    kind = rng.choice(["cut", "bits", "hole", "head"])
    if kind == "cut":
        return raw[:at]
    if kind == "hole":
        raw[at : at + 50] = bytes(len(raw[at : at + 50]))
    for _ in range({"bits": rng.choice([1, 3, 20]), "head": 3}.get(kind, 0)):
        place = rng.randrange(len(raw) if kind == "bits" else min(200, len(raw)))
        raw[place] = rng.randrange(256)
    return raw


def test_damaged_files_of_every_form_give_images_or_one_line():
    rng, outcomes, lines = random.Random(0), Counter(), []
    Path("damaged").mkdir()
    for path in forms():
        for _ in range(12):
            damaged = Path("damaged") / path.name
            damaged.write_bytes(mutant(bytearray(path.read_bytes()), rng))
            try:
                found = data.load(data.find(str(damaged), 8, 3, skip_broken=True))
            except InputError as error:
                outcomes["refused"] += 1
                lines.append(str(error))
            else:
                assert found.shape[1:] == (3, 8, 8)
                outcomes["read"] += 1
    assert outcomes.total() == 12 * 9
    assert all(line.startswith("damaged/") and "\n" not in line for line in lines)
    assert min(outcomes["refused"], outcomes["read"]) > 20


def folder_of(n: int, where: Path) -> Path:
    where.mkdir()
    for k in range(n):
        noise(k).save(where / f"{k}.png")
    return where


def test_no_result_is_written_among_the_images_that_it_is_made_from(tmp_path: Path, ddim_cli, monkeypatch):
    """The next reading would take it for one of them: a run could not even be resumed."""
    mine, inside = folder_of(6, tmp_path / "mine"), ("mine/out", "mine/deep/out")
    for out in inside:
        words = f"{out}: lies within the images of "
        refused(ddim_cli("train", "--data", "mine", "--time", "20s", "--out", out), words, "--out")
        refused(ddim_cli("train", "cifar10", "--data", "mine", "--out", out), words)
        refused(ddim_cli("vary", "cifar10", "mine", "--out", out), words)
        refused(ddim_cli("restore", "cifar10", "mine", "--task", "super-resolve", "--out", out), words)
        refused(ddim_cli("reconstruct", "cifar10", "mine", "--steps", 2, "--out", out), words)
        refused(ddim_cli("latents", "cifar10", "mine", "--steps", 2, "--out", out), words)
        refused(ddim_cli("likelihood", "cifar10", "mine", "--out", out), words)
        refused(ddim_cli("interpolate", "cifar10", "mine", "--out", out), words)
        refused(ddim_cli("explore", "cifar10", "mine", "--out", out), words)
        refused(ddim_cli("evaluate", "cifar10", "--reference", "mine", "--n", 2, "--out", out), words)
    refused(ddim_cli("data", "mine", "--out", "mine/data.png"), "mine/data.png: lies within the images of mine")
    monkeypatch.chdir(mine)
    refused(ddim_cli("data", str(mine), "--out", str(mine / "data.png")), "lies within the images")
    assert len(list(mine.rglob("*"))) == 6
    assert ddim_cli("data", "mine").returncode == 0  # beside them


def test_the_sheet_of_a_set_shows_those_that_can_be_read(tmp_path: Path):
    mine = folder_of(5, tmp_path / "mine")
    (mine / "1.png").write_bytes(b"no image")
    (mine / "9.png").write_bytes(b"no image")
    found = data.summarise(str(mine), 16)
    want = [torch.from_numpy(np.array(noise(k))).permute(2, 0, 1) for k in (0, 2, 3, 4)]
    assert torch.equal(found.images, torch.stack(want))
