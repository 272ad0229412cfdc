"""Many encoded images in one file: zip, tar (webdataset too). Nothing is unpacked to disk, or whole to memory."""

import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from copy import copy
from pathlib import Path, PurePosixPath
from posixpath import normpath

from PIL import Image

from ddim.errors import InputError
from ddim.images.files import (
    check_encoded,
    contents_of,
    identity_of,
    is_image,
    is_resource,
    kind_of,
    opened,
    unreadable,
)
from ddim.images.image_set import ImageSet
from ddim.images.labels import Labels, by_folder, by_number


class Zip(ImageSet):
    """The images of a zip file. crop: what to take of each before all else."""

    def __init__(
        self,
        path: Path,
        size: int,
        channels: int,
        skip_broken: bool = False,
        crop: tuple[int, int, int, int] | None = None,
    ):
        super().__init__(size, channels, skip_broken)
        self.path, self.crop = path, crop
        try:
            self.archive = zipfile.ZipFile(path)
        except Exception as error:  # besides BadZipFile, what broken headers provoke
            raise unreadable(path, "a zip file", error) from None
        names = [name for name in self.archive.namelist() if not name.endswith("/") and not is_resource(name)]
        self.names = sorted(filter(is_image, names))
        self.ignored.update(kind_of(name) for name in names if not is_image(name))
        if not self.names:
            raise InputError(f"{path}: holds no images{self.only()}")

    def __getstate__(self) -> dict:
        return {**self.__dict__, "archive": None}  # each worker process opens its own

    def open(self, i: int) -> Image.Image:
        self.archive = self.archive or zipfile.ZipFile(self.path)
        check_encoded(self.archive.getinfo(self.names[i]).file_size)
        return opened(self.archive.read(self.names[i]))

    def name(self, i: int) -> str:
        return f"{self.path}/{self.names[i]}"

    def identity(self) -> str:
        return identity_of([self.path])

    def contents(self) -> str:
        return contents_of([self.path])

    def find_labels(self) -> Labels | None:
        return by_folder(self.names)

    def __len__(self) -> int:
        return len(self.names)


class Tar(ImageSet):
    """The images of uncompressed tar files, such as the shards of a webdataset, read where they lie.

    Of a webdataset with several images an example (`0.input.jpg`, `0.target.jpg`), `column` names the one to take.
    """

    def __init__(
        self, paths: Sequence[Path], size: int, channels: int, skip_broken: bool = False, column: str = ""
    ):  # fmt: skip
        super().__init__(size, channels, skip_broken)
        self.paths = list(paths)
        self.members: list[tuple[int, str, int, int]] = []  # number of the file, name, offset, size
        self.classes: dict[tuple[int, str], int] = {}  # number of the file, key of the example: its class
        for k, path in enumerate(self.paths):
            try:
                with tarfile.open(path, "r:") as archive:
                    self._list(k, archive)
            except Exception as error:
                raise unreadable(
                    path, "an uncompressed tar file, which unpacking a compressed one gives", error
                ) from None
        source = self.paths[0] if len(self.paths) == 1 else self.paths[0].parent
        columns = _columns([name for _, name, _, _ in self.members])
        if column and column not in columns:
            raise InputError(f"{source}: no example has an image {column}; there are {', '.join(columns) or 'none'}")
        if not column and len(columns) > 1:
            raise InputError(
                f"{source}: each example has several images, {', '.join(columns)}; name one as {source}#{columns[0]}"
            )
        if column:
            self.members = [member for member in self.members if _split(member[1])[1] == column]
        if not self.members:
            raise InputError(f"{source}: holds no images{self.only()}")

    def _list(self, k: int, archive: tarfile.TarFile) -> None:
        end = self.paths[k].stat().st_size
        for entry in archive:
            if is_resource(entry.name) or not (entry.isfile() or entry.islnk() or entry.issym()):
                continue
            member = copy(linked(archive, entry))
            member.name = entry.name
            if not member.isfile():
                self.ignored["links to nothing"] += 1
                continue
            if member.name.endswith(".cls") and member.size < 20:
                number = archive.extractfile(member).read().strip()
                if number.isdigit():
                    self.classes[k, _split(member.name)[0]] = int(number)
            elif not is_image(member.name):
                self.ignored[kind_of(member.name)] += 1
            elif member.offset_data + member.size > end:
                raise ValueError(f"{member.name} ends behind the file's end")
            else:
                self.members.append((k, member.name, member.offset_data, member.size))

    def open(self, i: int) -> Image.Image:
        k, _, offset, size = self.members[i]
        check_encoded(size)
        with open(self.paths[k], "rb") as file:
            file.seek(offset)
            return opened(file.read(size))

    def name(self, i: int) -> str:
        k, name, _, _ = self.members[i]
        return f"{self.paths[k]}/{name}"

    def find_labels(self) -> Labels | None:
        """The numbers in the `.cls` beside the images of a webdataset, else the folders."""
        if not self.classes:
            return by_folder([name for _, name, _, _ in self.members])
        return by_number([self.classes.get((k, _split(name)[0])) for k, name, _, _ in self.members])

    def identity(self) -> str:
        return identity_of(self.paths) + (_split(self.members[0][1])[1] if self.members else "")

    def contents(self) -> str:
        return contents_of(self.paths)

    def __len__(self) -> int:
        return len(self.members)


def linked(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """What an entry of a tar file links to, over a few links; a link, where it is one to nothing."""
    for _ in range(8):
        if not (entry.islnk() or entry.issym()):
            break
        name = entry.linkname if entry.islnk() else normpath(f"{PurePosixPath(entry.name).parent}/{entry.linkname}")
        try:
            entry = archive.getmember(name)
        except KeyError:
            break
    return entry


def _split(name: str) -> tuple[str, str]:
    """A webdataset's key, with its folder, and the field: `a/0.input.jpg` -> (`a/0`, `input.jpg`)."""
    path = PurePosixPath(name)
    key, _, field = path.name.partition(".")
    return str(path.parent / key), field.lower()


def _columns(names: Sequence[str]) -> list[str]:
    """The fields that hold images; more than one only where several examples have them side by side."""
    fields = defaultdict(set)
    for name in names:
        key, field = _split(name)
        fields[field].add(key)
    keys = Counter(key for found in fields.values() for key in found)
    beside = {field for field, found in fields.items() if any(keys[key] > 1 for key in found)}
    several = sorted(field for field in beside if len(fields[field]) > 1)
    return several if len(several) > 1 else sorted(fields)[:1]
