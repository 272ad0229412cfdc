"""Tables with a column of encoded images: parquet files, folders of parquet shards, the sets of the Hub."""

import glob
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ddim.errors import InputError
from ddim.images.files import contents_of, files_below, one_line, opened
from ddim.images.image_set import ImageSet
from ddim.images.labels import NAMES, Labels, by_name, by_number
from ddim.system.messages import warn

SHARD = re.compile(r"(?:(?P<split>[\w.]+)-)?(?P<number>\d{5})-of-(?P<count>\d{5})(?:-[0-9a-f]+)?")


class Table(ImageSet):
    """A table of the `datasets` library with a column of encoded images; `column` names it where there are several."""

    def __init__(self, table, source: str, size: int, channels: int, skip_broken: bool = False, column: str = ""):
        from datasets import Image as ImageColumn

        super().__init__(size, channels, skip_broken)
        self.source = source
        columns = [name for name in table.column_names if not column or name == column]
        columns = [name for name in columns if _holds_images(table.select_columns([name]), name)]
        if not columns:
            found = f"column {column} does not hold images" if column else "no column holds images"
            raise InputError(f"{source}: {found}; its columns are {', '.join(table.column_names)}")
        if len(columns) > 1:
            raise InputError(f"{source}: columns {', '.join(columns)} hold images; name one as {source}#{columns[0]}")
        (self.column,) = columns
        label = next((name for name in NAMES if name in table.column_names and name != self.column), None)
        self.label = table.select_columns([label]) if label else None
        try:
            self.table = table.select_columns([self.column]).cast_column(self.column, ImageColumn(decode=False))
        except Exception as error:  # what the library does not take for a column of images
            raise InputError(f"{source}: column {self.column} cannot be read ({one_line(error)})") from None
        if not len(self.table):
            raise InputError(f"{source}: holds no images")

    def open(self, i: int) -> Image.Image:
        cell = self.table[i][self.column]
        if not cell or not (cell["bytes"] or cell["path"]):
            raise ValueError("empty cell")
        if cell["bytes"]:
            return opened(cell["bytes"])
        if not Path(cell["path"]).is_file():
            raise ValueError("a path, and no file is there")
        return Image.open(cell["path"])

    def name(self, i: int) -> str:
        return f"{self.source}, row {i}"

    def find_labels(self) -> Labels | None:
        """The column of labels: the library's ClassLabel with its names, numbers or names."""
        if self.label is None:
            return None
        ((name, feature),) = self.label.features.items()
        values, kind = self.label[name][:], getattr(feature, "dtype", "")
        if kind in ("string", "large_string"):
            return by_name(values)
        if kind == "bool":
            return by_name([None if value is None else str(value).lower() for value in values])
        return by_number(values, getattr(feature, "names", None)) if "int" in kind else None

    def identity(self) -> str:
        return f"{self.source} {self.table._fingerprint}"

    def contents(self) -> str:
        return contents_of([Path(file["filename"]) for file in self.table.cache_files]) or self.identity()

    def __len__(self) -> int:
        return len(self.table)


def _holds_images(table, name: str) -> bool:
    """Whether a column is the library's Image type, or a struct {bytes, path} or plain binary of encoded images."""
    from datasets import Image as ImageColumn

    feature = table.features[name]
    if isinstance(feature, ImageColumn):
        return True
    struct = isinstance(feature, dict) and {"bytes", "path"} <= feature.keys()
    if not struct and getattr(feature, "dtype", None) not in ("binary", "large_binary"):
        return False
    cells = (table[i][name] for i in range(min(len(table), 100)))
    some = [raw for cell in cells if (raw := cell and (cell["bytes"] if struct else cell))]
    return any(map(_is_image, some)) if some else struct


def _is_image(encoded: bytes) -> bool:
    try:
        opened(encoded).close()
    except Exception:  # bytes of something else
        return False
    return True


def parquet(path: Path, source: str, split: str):
    """A parquet file, or a split of the shards in a folder, memory-mapped by the `datasets` library.

    The splits of a folder are read from the names of its files, `train-00000-of-00002.parquet`, or of their folders,
    `train/0000.parquet`; without a name, train or the only one is taken.
    """
    datasets = quiet_library()
    files = shards(path, split) if path.is_dir() else [path]
    try:  # not load_dataset, which reports every use to the Hub
        return datasets.Dataset.from_parquet([glob.escape(str(file.resolve())) for file in files])
    except Exception as error:  # the library raises its own and pyarrow's
        reason = one_line(error.__cause__ or error)
        raise InputError(f"{source}: cannot be read as parquet ({reason})") from error


def has_shards(files: Sequence[Path]) -> bool:
    """Whether there are files named as shards of a parquet table."""
    return any(f.suffix == ".parquet" and SHARD.fullmatch(f.stem) for f in files)


def shards(root: Path, split: str) -> list[Path]:
    """The parquet files of a split below a folder, in order. Warns of missing ones; raises InputError."""
    splits: dict[str, list[Path]] = defaultdict(list)
    for file in files_below(root):
        if file.suffix == ".parquet":
            splits[_split(file, root)].append(file)
    chosen = split or ("train" if "train" in splits else next(iter(splits)) if len(splits) == 1 else "")
    if chosen not in splits:
        have = ", ".join(sorted(splits)) or "none"
        raise InputError(f"{root}: holds no split {split or 'train'!r} but {have}; name one as {root}:SPLIT")
    files = splits[chosen]
    folders = sorted({str(file.parent.relative_to(root)) for file in files})
    if len(folders) > 1:
        raise InputError(f"{root}: {chosen} lies in several folders, {', '.join(folders[:5])}; name one of them")
    _check_whole(root, chosen, files)
    return files


def _split(file: Path, root: Path) -> str:
    """The split that a shard belongs to."""
    found = SHARD.fullmatch(file.stem)
    if found:
        return found["split"] or "train"
    parent = file.parent.name if file.parent != root else ""
    if file.stem.isdigit() and parent:
        return parent
    return file.stem if file.stem in ("train", "test", "validation") else "train"


def _check_whole(root: Path, split: str, files: Sequence[Path]) -> None:
    named = [found for file in files if (found := SHARD.fullmatch(file.stem))]
    if named and len({found["number"] for found in named}) < int(named[0]["count"]):
        warn(f"{root}: {len(named)} of {int(named[0]['count'])} shards of {split} are here; the rest is not read")


def quiet_library():
    """The `datasets` library without its bars, and without its own lines on errors, which are raised as well."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    return datasets


def hub(source: str, split: str):
    """A split of a set on the Hub, memory-mapped by the `datasets` library."""
    datasets = quiet_library()
    try:
        return datasets.load_dataset(source, split=split or "train")
    except Exception as error:  # the library raises its own, the Hub's, pyarrow's and the network's
        if datasets.config.HF_HUB_OFFLINE:
            why = "not in the cache of the Hub, which HF_HUB_OFFLINE forbids to ask: unset it once, or name a folder"
        elif isinstance(error, ConnectionError):
            why = "the Hub cannot be reached to ask there"
        else:
            why = f"the Hub says: {one_line(error.__cause__ or error)}"
        raise InputError(f"{source}: no such folder, and {why}") from error
