"""How good samples are at the end of a training: FID and KID by a small network, and the nearest training images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddim.evaluation import features, metrics
from ddim.evaluation.statistics import Statistics
from ddim.training.held_out import Divided, some

REFERENCE = 2000  # training images that samples are compared with by features
SEARCHED = 20_000  # and among which their nearest ones are looked for
CHUNK = 256
COPY = 0.5  # of the distance of held-out images, below which a sample counts as a copy


@dataclass(frozen=True)
class Quality:
    """Of n samples, and of as many held-out images as there are (up to n): FID and KID to the training images by the
    features `by`; and the distance to the nearest training image, in grey levels (rms), in the median."""

    n: int
    by: str
    fid: float
    kid: float
    nearest: float
    copies: float  # the share of samples nearer than half that of held-out images, beyond the share of these
    held_n: int
    held_kid: float
    held_nearest: float


def quality(samples: Tensor, parts: Divided) -> Quality:
    """samples: (N, C, H, W) uint8, of 200 or more."""
    seen, _ = some(parts.seen, None, SEARCHED)
    held, _ = some(parts.held, None, len(samples))
    network = features.find("digits-small" if samples.shape[1:] == (1, 8, 8) else "cifar10-small")
    fake, real, other = (Statistics.of(seen_by(network, x)) for x in (samples, seen[:REFERENCE], held))
    ours, theirs = (metrics.neighbours(x, seen, 1)[1][:, 0] for x in (samples, held))
    limit = COPY * theirs.median()
    return Quality(
        len(samples),
        network.name,
        metrics.fid(real, fake),
        metrics.kid(real, fake)[0],
        ours.median().item(),
        max(0.0, ((ours < limit).double().mean() - (theirs < limit).double().mean()).item()),
        len(held),
        metrics.kid(real, other)[0],
        theirs.median().item(),
    )


def seen_by(network: features.Features, images: Tensor) -> Tensor:
    """The features (N, width) of images of any size."""
    return torch.cat([network(part) for part in images.split(CHUNK)])


def in_words(q: Quality) -> list[str]:
    lines = [
        f"{q.n} samples by the features {q.by}: FID {q.fid:.2f}, KID × 1000 {1000 * q.kid:.1f} (of {q.held_n} held-out "
        f"images {1000 * q.held_kid:.1f}); they compare with such figures only",
        f"nearest training image, median: {q.nearest:.0f} grey levels from samples, {q.held_nearest:.0f} from held-out "
        "images",
    ]
    if q.copies > 0.05:
        lines.append(
            f"{q.copies:.0%} of the samples are almost copies of training images: train on more, or for less time"
        )
    return lines
