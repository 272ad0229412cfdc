"""Pictures in, uint8 tensors out: the embedded digits, a folder, a parquet file, a Hub id.

Every source is a list of undecoded pictures. A set that fits in memory is decoded once into a cached tensor; a larger
one is decoded on the fly by worker processes.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ddim.errors import InputError
from ddim.files import folder, replacing
from ddim.progress import track

MEMORY = 4 * 2**30  # bytes of decoded pictures up to which a set is kept in memory


def fit(picture: Image.Image, size: int, channels: int) -> Tensor:
    """A picture of any mode and size -> (channels, size, size) uint8: upright, centre-cropped, resized antialiased."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits a sample: keep the upper 8, which Pillow's convert would clip
        picture = Image.fromarray((np.asarray(picture, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    array = np.array(picture).reshape(size, size, channels)
    return torch.from_numpy(array).permute(2, 0, 1)  # (C, H, W)


class Pictures(Dataset):
    """A source of undecoded pictures; `pictures[i]` decodes one. Subclasses say how to open and name number i."""

    def __init__(self, size: int, channels: int, skip_broken: bool = False):
        self.size, self.channels, self.skip_broken = size, channels, skip_broken

    def open(self, i: int) -> Image.Image:
        raise NotImplementedError

    def name(self, i: int) -> str:
        raise NotImplementedError

    def identity(self) -> str:
        """A text that changes when the pictures do."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def decode(self, i: int) -> Tensor | None:
        """(C, H, W) uint8; a broken picture is an InputError, or None with `skip_broken`."""
        try:
            with self.open(i) as picture:
                return fit(picture, self.size, self.channels)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if self.skip_broken:
                return None
            reason = "cannot be identified" if "identify" in str(error) else str(error)
            raise InputError(
                f"{self.name(i)}: not a readable picture ({reason}); remove it or pass --skip-broken"
            ) from None

    def __getitem__(self, i: int) -> Tensor:
        """(C, H, W) uint8. With `skip_broken`, a broken picture's place is taken by the next good one."""
        for j in range(len(self)):
            if (picture := self.decode((i + j) % len(self))) is not None:
                return picture
        raise InputError(f"{self.name(i)}: no picture here can be read")


class Folder(Pictures):
    def __init__(self, root: Path, size: int, channels: int, skip_broken: bool = False):
        super().__init__(size, channels, skip_broken)
        self.root = root
        Image.init()
        self.files = sorted(p for p in root.rglob("*") if p.suffix.lower() in Image.EXTENSION and p.is_file())
        if not self.files:
            raise InputError(f"{root}: holds no pictures; name a folder of image files")

    def open(self, i: int) -> Image.Image:
        return Image.open(self.files[i])

    def name(self, i: int) -> str:
        return str(self.files[i])

    def identity(self) -> str:
        return str([(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in self.files])

    def __len__(self) -> int:
        return len(self.files)


class Table(Pictures):
    """A table of the `datasets` library (a parquet file, a Hub set) with a column of encoded pictures."""

    def __init__(self, table, source: str, size: int, channels: int, skip_broken: bool = False):
        from datasets import Image as ImageColumn

        super().__init__(size, channels, skip_broken)
        self.source = source
        column = next((name for name in table.column_names if _holds_pictures(table.features[name])), None)
        if column is None:
            raise InputError(f"{source}: no column holds pictures; its columns are {', '.join(table.column_names)}")
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


def _holds_pictures(feature) -> bool:
    """Whether a column is the library's Image type, a struct {bytes, path}, or plain binary."""
    from datasets import Image as ImageColumn

    return (
        isinstance(feature, ImageColumn)
        or (isinstance(feature, dict) and {"bytes", "path"} <= feature.keys())
        or getattr(feature, "dtype", None) in ("binary", "large_binary")
    )


class Digits(Pictures):
    """scikit-learn's 1,797 real handwritten digits, 8×8 with 17 grey levels."""

    def __init__(self, size: int = 8, channels: int = 1):
        from sklearn.datasets import load_digits

        super().__init__(size, channels)
        self.images = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)

    def open(self, i: int) -> Image.Image:
        return Image.fromarray(self.images[i])

    def name(self, i: int) -> str:
        return f"digit {i}"

    def identity(self) -> str:
        return "digits"

    def __len__(self) -> int:
        return len(self.images)


def find(source: str, size: int, channels: int, skip_broken: bool = False) -> Pictures:
    """The pictures that `source` names: `digits`, a folder, a .parquet file or a Hub id. Raises InputError."""
    if not source:
        raise InputError("no pictures named: give --data FOLDER, FILE.parquet or HUB-ID")
    if source == "digits":
        return Digits(size, channels)
    path = Path(source).expanduser()
    if path.is_dir():
        return Folder(path, size, channels, skip_broken)
    if not path.exists() and (path.suffix or source.count("/") != 1 or source.startswith((".", "~"))):
        raise InputError(f"{source}: no such folder or file")
    if path.exists() and path.suffix != ".parquet":
        raise InputError(f"{source}: neither a folder of pictures nor a .parquet file")
    return Table(_load_table(source, path), source, size, channels, skip_broken)


def _load_table(source: str, path: Path):
    """A parquet file or the train split of a Hub set, memory-mapped by the `datasets` library."""
    import datasets

    datasets.disable_progress_bars()
    try:
        if path.exists():
            return datasets.load_dataset("parquet", data_files=str(path), split="train")
        return datasets.load_dataset(source, split="train")
    except Exception as error:  # the library raises its own, the Hub's, pyarrow's and the network's
        reason = str(error.__cause__ or error).splitlines()[0][:160]
        kind = "cannot be read as parquet" if path.exists() else "no such folder, and not reachable on the Hub either"
        raise InputError(f"{source}: {kind} ({reason})") from error


def cache_folder() -> Path:
    """Where decoded sets are kept: $DDIM_CACHE, or `ddim` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddim"
    return Path(os.environ.get("DDIM_CACHE") or default)


def load(pictures: Pictures) -> Tensor | Pictures:
    """All of a set as one (N, C, H, W) uint8 tensor, cached on disk; the set itself where that exceeds MEMORY."""
    if len(pictures) * pictures.channels * pictures.size**2 > MEMORY:
        return pictures
    if isinstance(pictures, Digits):
        return torch.stack([pictures[i] for i in range(len(pictures))])
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    key = f"{pictures.identity()} {pictures.size} {pictures.channels} {pictures.skip_broken} 1"
    path = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    try:
        return load_file(path)["pictures"]
    except (FileNotFoundError, SafetensorError, KeyError):  # absent, or not whole: decode (again)
        decoded = decode_all(pictures)
    try:
        folder(path.parent)
        with replacing(path) as part:
            save_file({"pictures": decoded}, part)
    except InputError:
        pass  # a cache that cannot be written costs only the time to decode
    return decoded


def decode_all(pictures: Pictures) -> Tensor:
    """Decode a whole set under a progress bar: (N, C, H, W) uint8, N less than its length by those skipped."""
    n, channels, size = len(pictures), pictures.channels, pictures.size
    out, kept = torch.empty(n, channels, size, size, dtype=torch.uint8), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the interpreter's lock
        for picture in track(pool.map(pictures.decode, range(n)), "decoding pictures", n, "picture"):
            if picture is not None:
                out[kept] = picture
                kept += 1
    if not kept:
        raise InputError(f"{pictures.name(0)}: none of the {n} pictures can be read")
    return out[:kept].clone() if kept < n else out


def order(n: int, batch_size: int, seed: int, first: int = 0) -> Iterator[list[int]]:
    """Batches of indices, endless, from batch `first` on: one shuffle of range(n) after another, end to end."""
    epoch, offset = divmod(first * batch_size, n)
    queue: list[int] = []
    while True:
        while len(queue) < batch_size:
            queue += np.random.default_rng([seed, epoch]).permutation(n)[offset:].tolist()
            epoch, offset = epoch + 1, 0
        yield queue[:batch_size]
        queue = queue[batch_size:]


def batches(pictures: Tensor | Pictures, index: Iterator[Sequence[int]], workers: int = 0) -> Iterator[Tensor]:
    """(B, C, H, W) uint8 for each batch of indices: by indexing a tensor, or decoded ahead by `workers` processes."""
    if isinstance(pictures, Tensor):
        return (pictures[i] for i in index)
    return iter(DataLoader(pictures, batch_sampler=index, num_workers=workers, collate_fn=torch.stack))


def to_float(pictures: Tensor) -> Tensor:
    """uint8 0..255 to float32 in [−1, 1]."""
    return pictures.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float in [−1, 1], clamped, to uint8, rounded."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
