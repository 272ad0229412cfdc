"""What samples are held against: real images, a feature network, and the floor between real images."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from ddim.diffusion.model import Model
from ddim.errors import InputError
from ddim.evaluation import features, metrics
from ddim.evaluation.published import data_set
from ddim.images.cache import load
from ddim.images.image_set import ImageSet
from ddim.images.sources import find
from ddim.jobs.bars import Progress, bar
from ddim.jobs.sampling import Job
from ddim.jobs.timings import seconds_an_image
from ddim.plots import sheets
from ddim.system.json import read_json, write_json
from ddim.system.machine import cache_folder
from ddim.system.messages import warn

SMALL = {(1, 8, 8): "digits-small", (3, 32, 32): "cifar10-small"}
SHOWN, NEAREST = 8, 6  # samples in the figure of neighbours, and training images beside each


@dataclass(frozen=True)
class Reference:
    """Real images, as statistics of their features."""

    source: str
    features: features.Features
    statistics: metrics.Statistics
    floor: dict | None  # FID of real images against the reference: what a perfect model would reach at this n
    images: Tensor | None = None  # (N, C, H, W) uint8, where they are at hand and fit in memory
    data_set: str | None = None  # the paper's data set that they are

    def facts(self) -> dict:
        """As the report keeps them."""
        width = len(self.statistics.mu)
        return {
            "features": {"name": self.features.name, "hash": self.features.hash, "width": width},
            "reference": {"source": self.source, "n": self.statistics.n, "data_set": self.data_set},
            "floor": self.floor,
            "torchmetrics": version("torchmetrics"),
        }


def reference(
    model: Model,
    source: str,
    network: str = "",
    n: int = 50_000,
    held_out: str = "",
    skip_broken: bool = False,
    progress: Progress = False,
) -> Reference:
    """Measure real images, once: their statistics are kept in the cache folder.

    source: training images, or an .npz of statistics.  network: a feature network, by default the small one that fits
    the images.  n: samples that will be held against them.  held_out: real images for the floor, "" for two halves of
    the reference. Warns where n is too small for the features. Raises InputError.
    """
    source, held_out = str(source), str(held_out)  # paths too
    if not source:
        raise InputError("the model does not say what it was trained on: name the training images by --reference")
    chosen = features.find(network or SMALL.get(model.shape, "inception"), model.device)
    if chosen.shape not in (None, tuple(model.shape)):
        here, there = ("×".join(map(str, shape)) for shape in (model.shape, chosen.shape))
        warn(f"features {chosen.name}: images of {here} are resized to {there}")
    width = chosen(torch.zeros(1, *model.shape, dtype=torch.uint8)).shape[1]
    images, name = None, None
    known = metrics.read(Path(source).expanduser()) if source.endswith(".npz") else None
    if isinstance(known, metrics.Statistics):
        metrics.check_widths(known, width)
    else:
        found = real(source, model, skip_broken)
        images, name = load(found), data_set(source, found)
        known = statistics_of(images, chosen, progress)
    for what, count in ((f"the reference {source}", known.n), ("a cell", n)):
        if 0 < count <= width:
            warn(
                f"{what} has {count} images, no more than the {width} dimensions of the features {chosen.name}: "
                "its covariance is singular, and FID says more of n than of the model; take more images"
            )
    if held_out:
        held = load(real(held_out, model, skip_broken))
        some = statistics_of(held[:n] if isinstance(held, Tensor) else held, chosen, progress)
        what = f"{some.n} images of {held_out} against it"
        floor = {"fid": metrics.fid(known, some), "n": some.n, "what": what}
    else:
        floor = floor_of(known, n)
    return Reference(source, chosen, known, floor, images if isinstance(images, Tensor) else None, name)


def statistics_of(images: Tensor | ImageSet, network: features.Features, progress: Progress) -> metrics.Statistics:
    """Statistics of real images, kept in the cache folder."""
    with bar("features", len(images), progress) as advance:
        return metrics.statistics(network, images, cache_folder(), advance=advance)


def floor_of(known: metrics.Statistics, n: int) -> dict | None:
    """FID of one part of the reference, of n images or half of it, against the rest; None for statistics alone."""
    if known.features is None or len(known.features) < 4:
        return None
    values = known.features
    half = min(n, len(values) // 2)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    found, against = (metrics.Statistics.of(values[part]) for part in (order[:half], order[half:]))
    what = f"{half} images of the reference against its other {len(values) - half}"
    return {"fid": metrics.fid(against, found), "n": found.n, "what": what}


def measure(against: Reference, job: Job, device: torch.device) -> dict:
    """Everything measured of a finished job's images. Distances are kept beside them, under what they are of."""
    images = job.images()
    content = metrics.content(images)
    path = job.files.out / f"distances-{content}-{against.features.hash}-{against.statistics.digest()}.json"
    if not whole(path):
        found, known = metrics.statistics(against.features, images), against.statistics
        kid, deviation = metrics.kid(known, found, device=device) or (None, None)
        shares = metrics.precision_recall(known, found, device=device) or (None, None)
        write_json(path, {
            "fid": metrics.fid(known, found),
            **{"kid": kid, "kid_deviation": deviation, "precision": shares[0], "recall": shares[1]},
        })  # fmt: skip
    return {
        **read_json(path),
        "seconds_an_image": seconds_an_image(sorted(job.files.out.glob("seconds-*.jsonl"))),
        "images": content,
    }


def whole(path: Path) -> bool:
    """Whether distances were kept there, all of them; a damaged file is made again."""
    try:
        kept = read_json(path)
    except InputError:  # not there, or not JSON
        return False
    return {"fid", "kid", "kid_deviation", "precision", "recall"} <= kept.keys()


def neighbours_figure(against: Reference, job: Job, path: Path) -> Sequence[Path]:
    """Draw samples, each before its nearest training images: a copy would tell of memorisation. Nothing is drawn where
    the reference is statistics, or too large for memory.
    """
    if against.images is None:
        return []
    samples = job.images(SHOWN)
    index, distance = metrics.neighbours(samples, against.images, NEAREST)
    rows = [torch.cat([sample[None], against.images[near]]) for sample, near in zip(samples, index, strict=True)]
    labels = [f"sample {k}; nearest at {d[0]:.1f}" for k, d in enumerate(distance.tolist())]
    return [sheets.save(sheets.rows(rows, labels), path)]


def real(source: str, model: Model, skip_broken: bool = False) -> ImageSet:
    """Real images in a model's shape. Raises InputError where they are smaller: enlarged ones are other images."""
    channels, size, _ = model.shape
    images = find(source, size, channels, skip_broken)
    images[0]  # where none can be read, this says so
    readable = next(i for i in range(len(images)) if images.decode(i) is not None)
    with images.whole(readable) as first:
        if min(first.size) < size and source != model.facts.data:
            width, height = first.size
            raise InputError(
                f"{source}: images of {width}×{height} are smaller than the model's {size}×{size}; name larger ones"
            )
    return images
