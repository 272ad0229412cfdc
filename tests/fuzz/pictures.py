"""Sets of images in every form that is read, whole, odd, damaged and hostile."""

import gzip
import io
import random
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fuzz import damage
from fuzz.harness import Arguments, Kind

FORMATS = ("png", "jpeg", "gif", "bmp", "tiff", "webp", "avif", "ppm", "ico", "tga", "pcx", "jpeg2000", "dds", "sgi",
           "im", "icns")  # fmt: skip
SUFFIXES = {"jpeg2000": "jp2", "jpeg": "jpg"}
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16")
SIZES = [(1, 1), (1, 300), (300, 1), (2, 2), (7, 5), (16, 16), (33, 64)]
NAMES = ["a.png", "β γ.png", "-n.png", "a\nb.png", "x" * 240 + ".png", "[1].png", "a#b.png", "a:b.png", "%s.png",
         "a.PNG", "a.png.png", "._a.png", ".png", "a.jpg", "\x1b[31m.png", "~.png", "a.tar.png", "$HOME.png", "a.tif",
         "a.gz", "a.svg", "a.heic"]  # fmt: skip


def image(rng: random.Random) -> Image.Image:
    """An image of any mode and size."""
    size, mode = rng.choice(SIZES), rng.choice(MODES)
    pixels = np.frombuffer(rng.randbytes(size[0] * size[1] * 3), np.uint8).reshape(size[1], size[0], 3)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    try:
        return Image.fromarray(pixels).convert(mode)
    except ValueError:
        return Image.fromarray(pixels)


def encoded(rng: random.Random, form: str | None = None) -> tuple[str, bytes]:
    """A suffix and an image of that format; with odd EXIF, frames or colours here and there."""
    form, made, buffer = form or rng.choice(FORMATS), image(rng), io.BytesIO()
    how: dict = {}
    if rng.random() < 0.3 and form in ("png", "jpeg", "webp", "avif", "tiff"):
        how["exif"] = exif(rng)
    if rng.random() < 0.2 and form in ("png", "gif", "tiff", "webp", "avif"):
        how |= {"save_all": True, "append_images": [image(rng) for _ in range(3)]}
    for mode in (made.mode, "RGB"):
        try:
            made.convert(mode).save(buffer, form, **how)
            break
        except Exception:  # a format has not every mode, nor every size
            how, buffer = {}, io.BytesIO()
    else:
        form, buffer = "png", io.BytesIO()
        made.convert("RGB").save(buffer, form)
    return SUFFIXES.get(form, form), buffer.getvalue()


def exif(rng: random.Random) -> bytes:
    """EXIF with an orientation of any type and value, or with damage."""
    kind, count = rng.choice([1, 2, 3, 4, 5, 7, 9, 12, 99]), rng.choice([0, 1, 2, 1000, 2**32 - 1])
    raw = b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHI4s", 0x0112, kind, count, rng.randbytes(4)) + b"\0\0\0\0"
    return raw if rng.random() < 0.7 else damage.bytes_of(raw, rng)[:60000]


def bomb(rng: random.Random) -> tuple[str, bytes]:
    """A few bytes that say that they are a huge image."""
    side = rng.choice([20_000, 65_000, 2**31 - 1])

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    many = chunk(b"IDAT", zlib.compress(bytes(10**7))) + chunk(b"IEND", b"")
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))
    return rng.choice([("png", png + many), ("png", png + text + many), ("bmp",
                      b"BM" + struct.pack("<IHHIIIIHHIIIIII", 54, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)),
                      ("gif", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + struct.pack("<HHHHB",
                      0, 0, 65535, 65535, 0) + b"\2\0;"), ("ppm", b"P6 %d %d 255\n" % (side, side)), ("tga", bytes([0,
                      0, 10]) + bytes(9) + struct.pack("<HHBB", 65535, 65535, 24, 0) + b"\xff\0\0\0" * 10),
                      ])  # fmt: skip


def one(rng: random.Random) -> tuple[str, bytes]:
    """An image: whole, damaged, hostile, or none."""
    how = rng.random()
    if how < 0.4:
        return encoded(rng)
    if how < 0.5:
        return bomb(rng)
    if how < 0.55:
        return rng.choice(["png", "jpg", "txt"]), rng.choice(damage.JUNK)
    suffix, raw = encoded(rng)
    return suffix, damage.bytes_of(raw, rng)


def several(rng: random.Random) -> dict[str, bytes]:
    """Names with images, at least one of them whole in most."""
    files = {}
    for i in range(rng.choice([1, 2, 4])):
        suffix, raw = one(rng) if rng.random() < 0.7 else encoded(rng, "png")
        name = rng.choice(NAMES) if rng.random() < 0.2 else f"{i}.{suffix}"
        folder = rng.choice(["", "", "", "a/", "a/b/c/", "__MACOSX/", "β/"])
        files[folder + name] = raw
    return files


def in_folder(rng: random.Random) -> str:
    root = Path(rng.choice(["in", "in put", "in[0]", "in#1", "in:x", "ïn", "img_align_celeba"]))
    root.mkdir()
    for name, raw in several(rng).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(raw)
    for i in range(rng.choice([0, 0, 1, 2])):
        damage.place_of(root / f"odd{i}.png", rng)
    if rng.random() < 0.1:
        (root / "circle").symlink_to(root.resolve())
    if rng.random() < 0.1:
        deep = root / "/".join("d" * 50 for _ in range(20))
        deep.mkdir(parents=True)
        (deep / "x.png").write_bytes(encoded(rng, "png")[1])
    return str(root)


def in_file(rng: random.Random) -> str:
    suffix, raw = one(rng)
    path = Path(f"one.{suffix}")
    path.write_bytes(raw)
    if rng.random() < 0.15:
        damage.place_of(path, rng)
    return str(path)


def in_zip(rng: random.Random) -> str:
    with zipfile.ZipFile("in.zip", "w", rng.choice([0, 8, 8, 12, 14])) as archive:
        for name, raw in several(rng).items():
            archive.writestr(rng.choice(["", "", "../", "/", "C:\\"]) + name, raw)
        if rng.random() < 0.1:
            archive.writestr("huge.bmp", bytes(3 * 10**8))
        if rng.random() < 0.1:
            archive.writestr("inner.zip", b"PK\5\6" + bytes(18))
    raw = bytearray(Path("in.zip").read_bytes())
    if rng.random() < 0.3:  # flags, methods and sizes of its lists
        for sign, offset in ((b"PK\3\4", 0), (b"PK\1\2", 2)):
            if (at := raw.find(sign)) >= 0:
                place = at + rng.choice([6, 8, 10, 14, 18, 22, 26]) + offset
                raw[place : place + 2] = rng.choice([b"\1\0", b"\x63\0", b"\xff\xff", b"\0\0"])
        Path("in.zip").write_bytes(raw)
    return damaged("in.zip", rng)


def in_tar(rng: random.Random) -> str:
    name, mode = rng.choice(
        [("in.tar", "w"), ("in.tar", "w"), ("in.tar", "w:gz"), ("in.tar.gz", "w:gz"), ("in.tgz", "w:gz")]
    )
    with tarfile.open(name, mode, format=rng.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as archive:
        for key, raw in several(rng).items():
            fields = [key] if rng.random() < 0.7 else [f"{key[:20]}.input.png", f"{key[:20]}.target.png"]
            for inside in fields:
                member = tarfile.TarInfo(inside)
                member.size = len(raw)
                member.type = rng.choice(
                    [tarfile.REGTYPE] * 8 + [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, b"S"]
                )
                archive.addfile(member, io.BytesIO(raw))
    return damaged(name, rng) + rng.choice(["", "", "#input.png", "#x", ":train"])


def in_parquet(rng: random.Random) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [*several(rng).values(), *rng.choice([[], [None], [b""]])]
    struct_of = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kinds = [
        lambda: pa.array(cells, pa.binary()),
        lambda: pa.array([None if c is None else {"bytes": c, "path": None} for c in cells], struct_of),
        lambda: pa.array(
            [{"bytes": None, "path": rng.choice(["/dev/zero", "x", "", "/proc/self/mem"])} for _ in cells], struct_of
        ),
        lambda: pa.array(["x" for _ in cells]),
        lambda: pa.array([[1, 2] for _ in cells]),
        lambda: pa.array([None if c is None else [c] for c in cells], pa.list_(pa.binary())),
        lambda: pa.array([None for _ in cells]),
        lambda: pa.array([{"bytes": 3, "path": 4} for _ in cells]),
    ]
    columns = {
        rng.choice(["image", "img", "β", "a b", ""]) or "x": rng.choice(kinds)() for _ in range(rng.choice([1, 1, 2]))
    }
    path = Path(
        rng.choice(["in.parquet", "in[1].parquet", "data/train-00000-of-00002.parquet", "data/train/0000.parquet"])
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    damaged(str(path), rng)
    source = str(path) if path.parent == Path() else rng.choice(["data", str(path)])
    return source + rng.choice(["", "", "", "#image", ":train", ":nosuch"])


def in_array(rng: random.Random) -> str:
    shape = rng.choice(
        [
            (3, 8, 8, 3),
            (3, 8, 8),
            (2, 3, 9, 9),
            (2, 8, 8, 4),
            (0, 8, 8, 3),
            (8, 8),
            (2, 8, 8, 7),
            (),
            (2, 0, 8, 3),
            (1, 1, 1, 1),
        ]
    )
    kind = rng.choice([np.uint8] * 5 + [np.float32, np.int64, np.bool_, object, "U3", np.float16])
    values = (
        np.frombuffer(rng.randbytes(int(np.prod(shape))), np.uint8).reshape(shape).astype(kind, order=rng.choice("CF"))
    )
    match rng.choice(["npy", "npz", "packed", "two"]):
        case "npy":
            np.save("in.npy", values, allow_pickle=True)
            return damaged("in.npy", rng)
        case "npz":
            np.savez("in.npz", values)
        case "packed":
            np.savez_compressed("in.npz", values)
        case "two":
            np.savez("in.npz", a=values, b=values, **{"β/c": values})
    return damaged("in.npz", rng) + rng.choice(["", "", "#arr_0", "#a", "#x"])


def in_idx(rng: random.Random) -> str:
    shape = rng.choice([(3, 8, 8), (3, 8, 8, 3), (0, 8, 8), (2**32 - 1, 2**16, 2**16), (2**31, 1, 1)])
    body = rng.randbytes(min(int(np.prod(np.array(shape, dtype=float))), 600))
    raw = struct.pack(f">HBB{len(shape)}I", 0, rng.choice([8, 8, 8, 13]), len(shape), *shape) + body
    name = rng.choice(["train-images-idx3-ubyte", "t10k-images.idx3-ubyte", "x-idx3-ubyte"])
    if rng.random() < 0.4:
        name, raw = f"{name}.gz", gzip.compress(raw)
    Path("mnist").mkdir()
    Path("mnist", name).write_bytes(raw)
    damaged(f"mnist/{name}", rng)
    return rng.choice(["mnist", f"mnist/{name}", "mnist:train", "mnist:test"])


def in_records(rng: random.Random) -> str:
    name = rng.choice(["data_batch_1.bin", "test_batch.bin", "train_X.bin", "unlabeled_X.bin", "x.bin"])
    record = 3 * 96 * 96 if "X" in name else 3073
    raw = rng.randbytes(record * rng.choice([0, 1, 2])) + bytes(rng.choice([0, 0, 1]))
    if rng.random() < 0.5:
        Path("batches").mkdir()
        Path("batches", name).write_bytes(raw)
        return rng.choice(["batches", f"batches/{name}", "batches:test"])
    with tarfile.open("a.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo(f"cifar/{name}")
        member.size = len(raw)
        archive.addfile(member, io.BytesIO(raw))
    return damaged("a.tar.gz", rng) + rng.choice(["", ":test"])


def in_lmdb(rng: random.Random) -> str:
    import lmdb

    database = lmdb.open("db", map_size=2**24)
    with database.begin(write=True) as transaction:
        for i, raw in enumerate(several(rng).values()):
            transaction.put(f"{i:05d}".encode(), raw) if len(raw) < 2**22 else None
    database.close()
    Path("db/lock.mdb").unlink(missing_ok=True)
    damaged("db/data.mdb", rng)
    return "db"


def in_nothing(rng: random.Random) -> str:
    """No set at all."""
    path = Path(rng.choice(["x.png", "x.zip", "x.tar", "x.npz", "x.npy", "x.parquet", "x", "x-idx3-ubyte", "x.bin"]))
    damage.place_of(path, rng)
    return rng.choice(
        [
            str(path),
            str(path),
            "",
            ".",
            "/dev/null",
            "/dev/zero",
            "a/b",
            "no where",
            "~nobody/x",
            "\0",
            "x" * 300,
            "#",
            ":",
            "a:b#c",
        ]
    )


def damaged(name: str, rng: random.Random) -> str:
    """The name of a file that is damaged in every second case."""
    if rng.random() < 0.5:
        path = Path(name)
        path.write_bytes(damage.bytes_of(path.read_bytes(), rng))
    return name


FORMS: list[Callable[[random.Random], str]] = [in_folder, in_folder, in_folder, in_file, in_zip, in_zip, in_tar,
            in_parquet, in_parquet, in_array, in_array, in_idx, in_records, in_lmdb, in_nothing, ]  # fmt: skip


def make(rng: random.Random, templates: Path) -> list[Arguments]:
    """A set, and the commands that read it."""
    warnings.simplefilter("ignore")
    source = rng.choice(FORMS)(rng)
    skip = rng.choice([[], ["--skip-broken"]])
    train = ["train", "digits", "--data", source, "--size", "8", "--channels", rng.choice("13"), "--steps", "1",
             "--batch-size", "2", "--ch", "8", "--groups", "8", "--mult", "1", "--workers", "0", "--out", "run",
             *skip]  # fmt: skip
    encode = ["encode", "digits", source, "--steps", "1", *skip]
    reconstruct = ["reconstruct", "digits", source, "--steps", "1", *skip]
    then = rng.choice([[train], [encode], [reconstruct], [encode], []])
    return [["data", source, "--size", "8"], *then] if rng.random() < 0.7 else then or [encode]


KIND = Kind("image sets", 1000, make)
