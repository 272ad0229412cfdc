"""Distances between sets of pictures, in the features of a network: FID and KID by torchmetrics, precision and recall.

Statistics are float64. A set's features are cached under a hash of its pictures and of the network.
"""

import hashlib
import os
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ddim.errors import InputError
from ddim.evaluation.features import Features
from ddim.images import batches as data
from ddim.system.files import folder, replacing

KEEP = 50_000  # pictures whose features are kept, for KID, precision and recall; FID takes all into account
# One process measures while the others sample: torchmetrics must not wait for them.
ALONE = {"sync_on_compute": False}


@dataclass(frozen=True)
class Statistics:
    """What is known of a set of pictures: the Gaussian fitted to its features, and the features themselves."""

    mu: Tensor  # (D,) float64
    sigma: Tensor  # (D, D) float64, the unbiased covariance
    n: int = 0  # pictures; 0 where a file of mu and sigma does not tell
    features: Tensor | None = None  # (min(n, KEEP), D) float32; None from such a file
    radii: dict[int, Tensor] = field(default_factory=dict)  # k -> (min(n, KEEP),), as precision and recall find them

    @classmethod
    def of(cls, features: Tensor) -> "Statistics":
        """From features (N, D). Raises InputError for N < 2."""
        if len(features) < 2:
            raise InputError(f"statistics need 2 pictures or more; got {len(features)}")
        values = features.double()
        return cls(values.mean(0), values.T.cov().view(values.shape[1], -1), len(features), features[:KEEP].float())

    def digest(self) -> str:
        """Sixteen hex digits that name the set, by what is known of it."""
        parts = (self.mu, self.sigma, self.features)
        told = b"".join(part.contiguous().numpy().tobytes() for part in parts if part is not None)
        return hashlib.sha256(told).hexdigest()[:16]


class _Given(nn.Module):
    """torchmetrics' feature network where the features are at hand already."""

    def __init__(self, width: int):
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def statistics(
    network: Features,
    pictures: Tensor | data.Pictures,
    cache: Path | None = None,
    batch_size: int = 256,
    advance: Callable[[int], None] = lambda n: None,
) -> Statistics:
    """The statistics of (N, C, H, W) uint8 pictures, or of a set too large for memory, by streaming through `network`.

    `cache`: a folder to keep them in, under a hash of the pictures. `advance` is told how many pictures are done.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    if len(pictures) < 2:
        raise InputError(f"statistics need 2 pictures or more; got {len(pictures)}")
    path = None if cache is None else folder(cache) / f"statistics-{content(pictures)}-{network.hash}.safetensors"
    if path and (known := _cached(path)):
        advance(len(pictures))
        return known
    kept, n, metric = [], 0, None
    index = (range(i, min(i + batch_size, len(pictures))) for i in range(0, len(pictures), batch_size))
    for batch in data.batches(pictures, map(list, index), workers=min(4, os.cpu_count() or 1)):
        features = network(batch)  # (B, D)
        metric = metric or FrechetInceptionDistance(_Given(features.shape[1]), **ALONE)
        metric.update(features.double(), real=True)
        kept += [features] if n < KEEP else []
        n += len(batch)
        advance(len(batch))
    total, products = metric.real_features_sum, metric.real_features_cov_sum
    mu = total / n
    found = Statistics(mu, (products - n * mu.outer(mu)) / (n - 1), n, torch.cat(kept)[:KEEP])
    if path:
        from safetensors.torch import save_file

        content_of = {"mu": found.mu, "sigma": found.sigma, "features": found.features, "n": torch.tensor(n)}
        with replacing(path) as part:
            save_file({name: value.contiguous() for name, value in content_of.items()}, part)
    return found


def _cached(path: Path) -> Statistics | None:
    """Statistics kept earlier; None where there are none, or the file is not whole."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        kept = load_file(path)
        return Statistics(kept["mu"], kept["sigma"], int(kept["n"]), kept["features"])
    except (FileNotFoundError, SafetensorError, KeyError):
        return None


def content(pictures: Tensor | data.Pictures) -> str:
    """Sixteen hex digits that change when the pictures do."""
    if isinstance(pictures, Tensor):
        digest = hashlib.sha256(str(tuple(pictures.shape)).encode())
        digest.update(pictures.contiguous().numpy())
        return digest.hexdigest()[:16]
    return hashlib.sha256(f"{pictures.identity()} {pictures.size} {pictures.channels}".encode()).hexdigest()[:16]


def read(path: Path) -> Statistics:
    """Statistics from an .npz of `mu` and `sigma`, as other FID tools write it. Raises InputError."""
    try:
        with np.load(path) as file:
            mu, sigma = (torch.from_numpy(np.asarray(file[name], dtype=np.float64)) for name in ("mu", "sigma"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of statistics") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not an .npz of mu and sigma ({error})") from None
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or not (mu.isfinite().all() and sigma.isfinite().all()):
        shapes = f"mu {tuple(mu.shape)}, sigma {tuple(sigma.shape)}"
        raise InputError(f"{path}: mu and sigma must be finite, (D,) and (D, D); got {shapes}")
    return Statistics(mu, sigma)


def write(statistics: Statistics, path: Path) -> None:
    """Write mu and sigma as other FID tools read them."""
    with replacing(path) as part:
        np.savez(part, mu=statistics.mu.numpy(), sigma=statistics.sigma.numpy())


def check_widths(real: Statistics, width: int) -> None:
    """Raise InputError where features `width` wide cannot be held against a reference."""
    if len(real.mu) != width:
        raise InputError(
            f"features {width} wide cannot be held against a reference {len(real.mu)} wide: "
            "name the feature network that the reference was made with by --features"
        )


def fid(real: Statistics, fake: Statistics) -> float:
    """‖μ−μ'‖² + tr(Σ + Σ' − 2 (ΣΣ')^½) (Heusel et al. 2017), by torchmetrics in float64. Raises InputError."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    check_widths(real, len(fake.mu))
    metric = FrechetInceptionDistance(_Given(len(real.mu)), **ALONE)
    for side, known in (("real", real), ("fake", fake)):
        # The sums of two pictures with this mean and covariance stand for the set: mean and covariance are all it asks.
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

    Subsets are of `size` pictures or as many as there are. None where a set's features are not at hand.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    if real.features is None or fake.features is None:
        return None
    check_widths(real, len(fake.mu))
    size = min(size, len(real.features), len(fake.features))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # "will save all features in buffer"
        torch.manual_seed(0)  # torchmetrics draws its subsets from the global generator
        metric = KernelInceptionDistance(_Given(len(real.mu)), subsets=subsets, subset_size=size, **ALONE)
        metric.update(real.features.to(device).double(), real=True)
        metric.update(fake.features.to(device).double(), real=False)
        mean, deviation = metric.compute()
    return mean.item(), deviation.item()


def precision_recall(
    real: Statistics, fake: Statistics, k: int = 3, device: torch.device | str = "cpu"
) -> tuple[float, float] | None:
    """The share of samples within the real manifold, and of real pictures within the samples' (Kynkäänniemi 2019).

    A manifold is the union of balls about its pictures, each out to its k-th nearest other one.
    """
    if real.features is None or fake.features is None:
        return None
    check_widths(real, len(fake.mu))
    x, y = real.features.to(device), fake.features.to(device)
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
    return torch.cat(inside).double().mean().item()


def neighbours(images: Tensor, pictures: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of the training pictures (M, C, H, W) to each image (N, C, H, W), both uint8, in pixels.

    Returns indices (N, k), nearest first, and distances (N, k): root mean square, in grey levels of 256.
    """
    points = images.flatten(1).float()
    best = torch.full((len(images), 0), 0.0)
    index = torch.zeros(len(images), 0, dtype=torch.long)
    for start in range(0, len(pictures), 4096):
        some = pictures[start : start + 4096].flatten(1).float()
        distance = torch.cat([best, torch.cdist(points, some)], dim=1)
        found = torch.cat([index, torch.arange(start, start + len(some)).expand(len(images), -1)], dim=1)
        best, order = distance.topk(min(k, distance.shape[1]), largest=False)
        index = found.gather(1, order)
    return index, best / points.shape[1] ** 0.5
