"""A set of undecoded images: the one place where an image is opened and decoded."""

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ddim.errors import InputError
from ddim.images.files import one_line
from ddim.images.labels import Labels
from ddim.images.pixels import fit


class Quiet:
    """While any thread is inside, warnings are off: their filters belong to the whole process."""

    def __init__(self):
        self.lock, self.inside, self.filters = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.filters = warnings.catch_warnings(action="ignore")
                self.filters.__enter__()

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.filters.__exit__(*error)


quiet = Quiet()


class ImageSet(Dataset):
    """A source of undecoded images; `images[i]` decodes one. Subclasses say how to open and name number i."""

    crop: tuple[int, int, int, int] | None = None  # left, upper, right, lower, taken before all else
    published_as: str | None = None  # the data set, where these are its images as their authors publish them

    def __init__(self, size: int, channels: int, skip_broken: bool = False):
        self.size, self.channels, self.skip_broken = size, channels, skip_broken
        self.ignored: Counter[str] = Counter()  # kinds of files that were passed over

    def open(self, i: int) -> Image.Image:
        raise NotImplementedError

    def name(self, i: int) -> str:
        raise NotImplementedError

    def identity(self) -> str:
        """A text that changes when the images do; empty where they are too few to be worth a cache."""
        raise NotImplementedError

    def contents(self) -> str:
        """A text that names what the images are, wherever they lie, for sets too large to be compared by pixels."""
        return self.identity()

    def find_labels(self) -> Labels | None:
        """The classes of the images; None where nothing tells them."""
        return None

    @cached_property
    def labels(self) -> Labels | None:
        """The same, looked for when first asked for."""
        return self.find_labels()

    def __len__(self) -> int:
        raise NotImplementedError

    def only(self) -> str:
        """In brackets, what there is where there is no image; empty where there is nothing."""
        return f" (only {', '.join(sorted(self.ignored)[:5])})" if self.ignored else ""

    def passed_over(self) -> str:
        """The kinds of files that are not read, how many of each, and why; empty where there are none."""
        if not self.ignored:
            return ""
        more = f" and {len(self.ignored) - 5} more kinds" if len(self.ignored) > 5 else ""
        kinds = ", ".join(f"{kind} ({n:,})" for kind, n in self.ignored.most_common(5))
        return f"{kinds}{more}: not images that can be read here; convert those among them to PNG or JPEG"

    @contextmanager
    def whole(self, i: int) -> Iterator[Image.Image]:
        """Image i, opened and with its pixels loaded. Whatever that raises becomes an InputError of one line."""
        try:
            with quiet, self.open(i) as image:
                image.load()
                yield image
        except InputError:
            raise
        except Exception as error:  # what a broken file provokes in Pillow, zlib, an archive or a table
            reason = "cannot be identified" if "identify" in str(error) else one_line(error)
            raise InputError(
                f"{self.name(i)}: not a readable image ({reason}); remove it or pass --skip-broken"
            ) from None

    def decode(self, i: int) -> Tensor | None:
        """(C, H, W) uint8; a broken image is an InputError, or None with `skip_broken`."""
        try:
            with self.whole(i) as image:
                return fit(image.crop(self.crop) if self.crop else image, self.size, self.channels)
        except InputError:
            if self.skip_broken:
                return None
            raise

    def __getitem__(self, i: int) -> Tensor:
        """(C, H, W) uint8. With `skip_broken`, a broken image's place is taken by the next good one."""
        return self.good(i)[0]

    def good(self, i: int) -> tuple[Tensor, int]:
        """The same, and the number of the image that it is."""
        for j in range(i, i + len(self)):
            if (image := self.decode(j % len(self))) is not None:
                return image, j % len(self)
        raise InputError(f"{self.name(i)}: no image here can be read")


class ArrayImages(ImageSet):
    """Images that lie in memory, or in a memory map, as (N, H, W, C) or (N, H, W) uint8."""

    def __init__(
        self,
        source: str,
        images: np.ndarray,
        identity: str,
        size: int,
        channels: int,
        labels: Callable[[], Labels | None] | None = None,
    ):
        super().__init__(size, channels)
        self.source, self.images, self.about, self.read_labels = source, images, identity, labels
        if not len(images):
            raise InputError(f"{source}: holds no images")

    def open(self, i: int) -> Image.Image:
        return Image.fromarray(self.images[i])

    def name(self, i: int) -> str:
        return f"{self.source}, image {i}"

    def find_labels(self) -> Labels | None:
        found = self.read_labels and self.read_labels()
        if found and len(found.numbers) != len(self.images):
            raise InputError(f"{self.source}: has {len(found.numbers):,} labels for {len(self.images):,} images")
        return found

    def identity(self) -> str:
        return self.about

    def __len__(self) -> int:
        return len(self.images)


class Part(ImageSet):
    """Some images of a set, by their numbers in it."""

    def __init__(self, whole: ImageSet, numbers: np.ndarray):
        super().__init__(whole.size, whole.channels, whole.skip_broken)
        self.whole_set, self.numbers, self.crop = whole, numbers, whole.crop

    def open(self, i: int) -> Image.Image:
        return self.whole_set.open(int(self.numbers[i]))

    def name(self, i: int) -> str:
        return self.whole_set.name(int(self.numbers[i]))

    def identity(self) -> str:
        return ""  # it has no cache of its own

    def __len__(self) -> int:
        return len(self.numbers)
