"""What is known of a set of images in the features of a network: mean, covariance, and the features themselves.

Statistics are float64. A set's are cached under a hash of its images and of the network.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ddim import images as data
from ddim.errors import InputError
from ddim.evaluation.features import Features
from ddim.images.arrays import read_npz
from ddim.system.files import folder, replacing

KEEP = 50_000  # images whose features are kept, for KID, precision and recall; FID takes all into account
# One process measures while the others sample: torchmetrics must not wait for them.
ALONE = {"sync_on_compute": False}


@dataclass(frozen=True)
class Statistics:
    """What is known of a set of images: the Gaussian fitted to its features, and the features themselves."""

    mu: Tensor  # (D,) float64
    sigma: Tensor  # (D, D) float64, the unbiased covariance
    n: int = 0  # images; 0 where a file of mu and sigma does not tell
    features: Tensor | None = None  # (min(n, KEEP), D) float32; None from such a file
    radii: dict[int, Tensor] = field(default_factory=dict)  # k -> (min(n, KEEP),), as precision and recall find them

    @classmethod
    def of(cls, features: Tensor) -> "Statistics":
        """From features (N, D). Raises InputError for N < 2."""
        if len(features) < 2:
            raise InputError(f"statistics need 2 images or more; got {len(features)}")
        values = features.double()
        return cls(values.mean(0), values.T.cov().view(values.shape[1], -1), len(features), features[:KEEP].float())

    def digest(self) -> str:
        """Sixteen hex digits that name the set, by what is known of it."""
        parts = (self.mu, self.sigma, self.features)
        content = b"".join(part.contiguous().numpy().tobytes() for part in parts if part is not None)
        return hashlib.sha256(content).hexdigest()[:16]


class Given(nn.Module):
    """torchmetrics' feature network where the features are at hand already."""

    def __init__(self, width: int):
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def statistics(
    network: Features,
    images: Tensor | data.ImageSet,
    cache: Path | None = None,
    batch_size: int = 256,
    advance: Callable[[int], None] = lambda n: None,
) -> Statistics:
    """The statistics of (N, C, H, W) uint8 images, or of a set too large for memory, by streaming through `network`.

    `cache`: a folder to keep them in, under a hash of the images. `advance` is called with how many images are done.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    if len(images) < 2:
        raise InputError(f"statistics need 2 images or more; got {len(images)}")
    path = None if cache is None else folder(cache) / f"statistics-{content(images)}-{network.hash}.safetensors"
    if path and (known := _cached(path)):
        advance(len(images))
        return known
    kept, n, metric = [], 0, None
    index = (range(i, min(i + batch_size, len(images))) for i in range(0, len(images), batch_size))
    for batch in data.batches(images, map(list, index), workers=min(4, os.cpu_count() or 1)):
        features = network(batch)  # (B, D)
        metric = metric or FrechetInceptionDistance(Given(features.shape[1]), **ALONE)
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


def content(images: Tensor | data.ImageSet) -> str:
    """Sixteen hex digits that change when the images do."""
    if isinstance(images, Tensor):
        digest = hashlib.sha256(str(tuple(images.shape)).encode())
        digest.update(images.contiguous().numpy())
        return digest.hexdigest()[:16]
    return hashlib.sha256(f"{images.identity()} {images.size} {images.channels}".encode()).hexdigest()[:16]


KEYS = (("mu", "sigma"), ("m2", "s2"), ("m", "s"))  # how tools call the mean and the covariance


def read(path: Path) -> Statistics | Tensor:
    """Statistics from an .npz as FID tools write it: the mean and covariance (`mu` and `sigma`, or `m2` and `s2`), or
    features (`pool_3`, (N, D)). From a sample batch (`arr_0`, (N, H, W, C) uint8), the images (N, C, H, W).

    Raises InputError, which lists the keys that were found.
    """
    found, names = read_npz(path, {*sum(KEYS, ()), "pool_3", "arr_0"})
    for pair in KEYS:
        if set(pair) <= found.keys():
            mu, sigma = (torch.from_numpy(np.asarray(found[name], dtype=np.float64)) for name in pair)
            if mu.ndim == 1 and sigma.shape == (len(mu), len(mu)) and mu.isfinite().all() and sigma.isfinite().all():
                return Statistics(mu, sigma)
            shapes = f"{pair[0]} {tuple(mu.shape)}, {pair[1]} {tuple(sigma.shape)}"
            raise InputError(f"{path}: {pair[0]} and {pair[1]} must be finite, (D,) and (D, D); got {shapes}")
    if "pool_3" in found:
        values = torch.from_numpy(np.asarray(found["pool_3"], dtype=np.float64))
        if values.ndim == 2 and len(values) > 1 and values.isfinite().all():
            return Statistics.of(values)
        raise InputError(f"{path}: pool_3 must be finite, (N, D) with N of 2 or more; got {tuple(values.shape)}")
    if "arr_0" in found and found["arr_0"].ndim == 4 and found["arr_0"].dtype == np.uint8:
        return torch.from_numpy(found["arr_0"]).permute(0, 3, 1, 2)
    keys = ", ".join(names) or "none"
    raise InputError(f"{path}: not statistics: its keys are {keys}; known are mu and sigma, m2 and s2, pool_3, arr_0")


def write(statistics: Statistics, path: Path) -> None:
    """Write mu and sigma as other FID tools read them."""
    with replacing(path) as part:
        np.savez(part, mu=statistics.mu.numpy(), sigma=statistics.sigma.numpy())
