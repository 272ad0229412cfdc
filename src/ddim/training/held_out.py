"""Images that are never trained on, and the loss on them by noise level: whether a network learns, or memorises."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ddim.diffusion.model import Model
from ddim.diffusion.process import marginal
from ddim.images.image_set import ImageSet, Part
from ddim.images.pixels import to_float
from ddim.training.loss import target

MOST = 1000  # images held out at most
LEVELS = 8  # noise levels, in the middles of so many equal parts of [0, T]
CHUNK = 64  # images at a time


@dataclass(frozen=True)
class Divided:
    """A set of images in two: those to train on, and those held out, with the labels of each where there are any."""

    seen: Tensor | ImageSet
    labels: Tensor | None
    held: Tensor | ImageSet | None = None
    held_labels: Tensor | None = None


def how_many(n: int, share: float) -> int:
    """How many of n images are held out."""
    return min(MOST, int(share * n))


def divided(images: Tensor | ImageSet, labels: Tensor | None, share: float, seed: int) -> Divided:
    """Hold out a share of the images, 1,000 at most: by the seed, so that a resume holds out the same ones."""
    n = len(images)
    count = how_many(n, share)
    if not count:
        return Divided(images, labels)
    order = np.random.default_rng([seed, 0x4E1D]).permutation(n)
    held, seen = np.sort(order[:count]), np.sort(order[count:])
    parts = [images[torch.from_numpy(i)] if isinstance(images, Tensor) else Part(images, i) for i in (seen, held)]
    parts_of_labels = [None if labels is None else labels[torch.from_numpy(i)] for i in (seen, held)]
    return Divided(parts[0], parts_of_labels[0], parts[1], parts_of_labels[1])


def some(images: Tensor | ImageSet, labels: Tensor | None, n: int) -> tuple[Tensor, Tensor | None]:
    """The first n of some images, (n, C, H, W) uint8, and their labels (n,)."""
    if isinstance(images, Tensor):
        return images[:n], None if labels is None else labels[:n]
    found = [images.good(i) for i in range(min(n, len(images)))]
    return torch.stack([image for image, _ in found]), None if labels is None else labels[[i for _, i in found]]


@torch.no_grad()
def losses_by_level(model: Model, images: Tensor, labels: Tensor | None, seed: int, accelerator) -> list[float]:
    """The mean squared error of what the network predicts, ε or v, at LEVELS noise levels, each over all images
    (N, C, H, W) uint8.

    Image k gets the same noise at every call, so that two networks, or two states of one, differ by what they are.
    """
    n, device = len(images), accelerator.device
    at = ((torch.arange(LEVELS) + 0.5) * model.T / LEVELS).long().clamp(1, model.T)  # (LEVELS,)
    noise = [
        torch.randn(LEVELS, *images.shape[1:], generator=torch.Generator().manual_seed(seed * 2**20 + k))
        for k in range(n)
    ]
    eps = torch.cat(noise)  # (N·LEVELS, C, H, W), the levels of an image beside each other
    x0, times = to_float(images).repeat_interleave(LEVELS, 0), at.repeat(n)
    given = [] if labels is None else [labels.repeat_interleave(LEVELS)]
    errors = []
    for parts in zip(*(value.split(CHUNK) for value in (x0, eps, times, *given)), strict=True):
        x, e, t, *y = (part.to(device) for part in parts)
        level = model.abar.float().to(device)[t][:, None, None, None]
        with accelerator.autocast():
            out = model.network(marginal(x, e, level), t - 1, *y)[:, : x.shape[1]]  # without a learned variance
        wanted = target(model.predicts, x, e, level)
        errors.append(F.mse_loss(out.float(), wanted, reduction="none").mean((1, 2, 3)).cpu())
    return torch.cat(errors).view(n, LEVELS).mean(0).tolist()
