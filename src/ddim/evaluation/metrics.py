"""Distances between sets of images, in the features of a network: FID and KID by torchmetrics, precision and recall."""

import warnings

import torch
from torch import Tensor

from ddim.errors import InputError
from ddim.evaluation.statistics import ALONE, Given, Statistics, content, read, statistics, write
from ddim.system.machine import widest

__all__ = [
    "Statistics", "check_widths", "content", "fid", "kid", "neighbours", "precision_recall", "read", "statistics",
    "write",
]  # fmt: skip


def check_widths(real: Statistics, width: int) -> None:
    """Raise InputError where features of that width do not compare with a reference."""
    if len(real.mu) != width:
        raise InputError(
            f"features of width {width} do not compare with a reference of width {len(real.mu)}: "
            "name the feature network that the reference was made with by --features"
        )


def fid(real: Statistics, fake: Statistics) -> float:
    """‖μ−μ'‖² + tr(Σ + Σ' − 2 (ΣΣ')^½) (Heusel et al. 2017), by torchmetrics in float64. Raises InputError."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    check_widths(real, len(fake.mu))
    metric = FrechetInceptionDistance(Given(len(real.mu)), **ALONE)
    for side, known in (("real", real), ("fake", fake)):
        # The sums of two images with this mean and covariance stand for the set: mean and covariance are all it asks.
        setattr(metric, f"{side}_features_sum", 2 * known.mu)
        setattr(metric, f"{side}_features_cov_sum", known.sigma + 2 * known.mu.outer(known.mu))
        setattr(metric, f"{side}_features_num_samples", torch.tensor(2))
    metric.orig_dtype = torch.float64
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "compute before update"
        return metric.compute().item()


def kid(
    real: Statistics, fake: Statistics, subsets: int = 100, size: int = 1000, device: torch.device | str = "cpu"
) -> tuple[float, float] | None:
    """Mean and deviation over subsets of the squared MMD with a cubic kernel (Bińkowski et al. 2018), by torchmetrics.

    Subsets are of `size` images or as many as there are. None where a set's features are not at hand.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    if real.features is None or fake.features is None:
        return None
    check_widths(real, len(fake.mu))
    size = min(size, len(real.features), len(fake.features))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # "will save all features in buffer"
        torch.manual_seed(0)  # torchmetrics draws its subsets from the global generator
        metric = KernelInceptionDistance(Given(len(real.mu)), subsets=subsets, subset_size=size, **ALONE)
        device = device if widest(torch.device(device)) is torch.float64 else "cpu"
        metric.update(real.features.to(device).double(), real=True)
        metric.update(fake.features.to(device).double(), real=False)
        mean, deviation = metric.compute()
    return mean.item(), deviation.item()


def precision_recall(
    real: Statistics, fake: Statistics, k: int = 3, device: torch.device | str = "cpu"
) -> tuple[float, float] | None:
    """The share of samples within the real manifold, and of real images within the samples' (Kynkäänniemi 2019).

    A manifold is the union of balls about its images, each out to its k-th nearest other one.
    """
    if real.features is None or fake.features is None:
        return None
    check_widths(real, len(fake.mu))
    # Distances are the same about any centre; about the origin, a large mean would cost float32 its digits.
    centre = real.features.double().mean(0)
    x, y = ((known.features.double() - centre).float().to(device) for known in (real, fake))
    return _covered(y, x, _radii(real, x, k)), _covered(x, y, _radii(fake, y, k))


def _radii(known: Statistics, centres: Tensor, k: int) -> Tensor:
    """From each of a set's features (M, D) to its k-th nearest other one: (M,). The slow part, so done once a set."""
    k = min(k, len(centres) - 1)
    if k not in known.radii:
        nearest = (torch.cdist(some, centres).topk(k + 1, largest=False).values for some in centres.split(1024))
        known.radii[k] = torch.cat([distances[:, k] for distances in nearest])
    return known.radii[k]


def _covered(points: Tensor, centres: Tensor, radii: Tensor) -> float:
    """The share of points (N, D) in the ball of some centre: (M, D), (M,)."""
    inside = [(torch.cdist(some, centres) <= radii).any(1) for some in points.split(1024)]
    return torch.cat(inside).cpu().double().mean().item()


def neighbours(images: Tensor, real: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of the training images `real` (M, C, H, W) to each image (N, C, H, W), both uint8, in pixels.

    Returns indices (N, k), nearest first, and distances (N, k): root mean square, in grey levels of 256.
    """
    points = images.flatten(1).float()
    best = torch.full((len(images), 0), 0.0)
    index = torch.zeros(len(images), 0, dtype=torch.long)
    for start in range(0, len(real), 4096):
        some = real[start : start + 4096].flatten(1).float()
        distance = torch.cat([best, torch.cdist(points, some)], dim=1)
        found = torch.cat([index, torch.arange(start, start + len(some)).expand(len(images), -1)], dim=1)
        best, order = distance.topk(min(k, distance.shape[1]), largest=False)
        index = found.gather(1, order)
    return index, best / points.shape[1] ** 0.5
