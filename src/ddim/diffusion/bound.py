"""The variational bound on −log p(x_0), term by term: prior, a KL divergence for each step, and a discretised decoder.

Equations are those of Ho, Jain & Abbeel 2020 (arXiv 2006.11239, section 3), for a chain over any sub-sequence.
All of it is in bits per dimension.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ddim.diffusion.model import Denoiser
from ddim.diffusion.process import Prediction, learned_log_variance, marginal
from ddim.diffusion.solvers.stochastic import UNLEARNED
from ddim.errors import InputError

BIN = 1 / 255  # half of the distance between two of the 256 values, on [−1, 1]
LEAST = 1e-12  # the smallest probability of a value that counts


class Steps(NamedTuple):
    """Numbers of the steps of a chain, float64: (S,) for all of them, or what broadcasts against images for some."""

    low: Tensor  # log β̃, the variance of q(x_s | x_t, x_0); in the step into the data, where it is 0, the one before
    high: Tensor  # log β
    weight: Tensor  # of x_0 in the mean of that posterior
    last: Tensor  # whether it leads into the data

    def at(self, i: int | Tensor, like: Tensor) -> "Steps":
        """Of step i, 0-dim on the CPU; or of (N,) steps, (N, 1, 1, 1) on the device and of the type of `like`."""
        if isinstance(i, int):
            return Steps(*(value[i] for value in self))
        kinds = [like.dtype] * 3 + [torch.bool]
        rows = (value.to(like.device, kind)[i] for value, kind in zip(self, kinds, strict=True))
        return Steps(*(row[:, None, None, None] for row in rows))


def steps_of(levels: Tensor) -> Steps:
    """Of the chain that walks down `levels` (S+1,), the last of them 1."""
    above, below = levels[:-1], levels[1:]
    beta = 1 - above / below
    low = (beta * (1 - below) / (1 - above)).log()
    low[-1] = low[-2] if len(low) > 1 else beta[-1].log()
    return Steps(low, beta.log(), below.sqrt() * beta / (1 - above), below == 1)


class Bound(NamedTuple):
    """The bound for N images over S steps, in bits per dimension, and how well x_0 and ε were predicted at each."""

    prior: Tensor  # (N,) KL(q(x_T | x_0) ‖ N(0, I))
    terms: Tensor  # (N, S), from T down; the last one is of the decoder
    x0_error: Tensor  # (N, S) mean square
    eps_error: Tensor  # (N, S)

    @property
    def total(self) -> Tensor:
        """(N,)"""
        return self.prior + self.terms.sum(1)


def bound(
    model: Denoiser, x0: Tensor, levels: Tensor, times: Sequence[int], variance: str, noise: Iterator[Tensor]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Walks down `times`, whose levels (S+1,) end at 1, and yields the term of each step, with the errors of x̂_0 and of
    ε: (N,) each. noise: ε of each step, (N, C, H, W). The steps do not depend on each other.

    x0: (N, C, H, W) of 8-bit values on [−1, 1].  variance: of each step, as in sampling.  Raises InputError.
    """
    chain = steps_of(levels)
    for i, t in enumerate(times[:-1]):
        step, eps = chain.at(i, x0), next(noise)
        x = marginal(x0, eps, levels[i]).to(x0.dtype)
        prediction = model(x, t)
        term = term_of(x0, prediction, step, variance)
        yield term, mean(prediction.x0 - x0, 2), mean(prediction.eps - eps, 2)


def term_of(x0: Tensor, prediction: Prediction, step: Steps, variance: str) -> Tensor:
    """KL(q(x_s | x_t, x_0) ‖ p(x_s | x_t)), or −log p(x_0 | x_1) in the step into the data: (N,) bits per dimension."""
    log_variance = log_variance_of(prediction, step, variance)
    gap = (step.weight * (x0 - prediction.x0)).square()  # of the two means
    kl = (log_variance - step.low + (step.low - log_variance).exp() - 1 + gap * (-log_variance).exp()) / 2
    if not step.last.any():
        return mean(kl) / math.log(2)
    decoder = -log_probability(x0, prediction.x0, log_variance)
    return mean(torch.where(step.last, decoder, kl)) / math.log(2)


def log_variance_of(prediction: Prediction, step: Steps, variance: str) -> Tensor:
    """log σ² of p(x_s | x_t). The large one is the small one in the step into the data, as all code of these models has
    it: the decoder is better by it."""
    if variance == "small":
        return step.low
    if variance == "large":
        return torch.where(step.last, step.low, step.high)
    if prediction.variance is None:
        raise InputError(UNLEARNED)
    return learned_log_variance(prediction.variance, step.low, step.high)


def log_probability(x0: Tensor, centre: Tensor, log_variance: Tensor, exact: bool = False) -> Tensor:
    """log of the mass that N(centre, σ²) has within half a step of each 8-bit value x0 (N, C, H, W) on [−1, 1]; all
    that lies beyond is of 0 and of 255. At least 1e-12 each.

    exact: Φ itself. By default it is the approximation with tanh by which published bits/dim were computed.
    """
    scale = (-log_variance / 2).exp()
    cdf = torch.special.ndtr if exact else nearly_normal_cdf
    above, below = cdf(scale * (x0 - centre + BIN)), cdf(scale * (x0 - centre - BIN))
    above = torch.where(x0 > 1 - BIN, 1.0, above)
    below = torch.where(x0 < -1 + BIN, 0.0, below)
    return (above - below).clamp(min=LEAST).log()


def nearly_normal_cdf(x: Tensor) -> Tensor:
    """Φ to about 3e-4 (Page 1977)."""
    return (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh()) / 2


def prior_of(x0: Tensor, level: Tensor) -> Tensor:
    """KL(q(x_T | x_0) ‖ N(0, I)): (N,) bits per dimension."""
    return mean(level * x0.square() - level - (1 - level).log()) / 2 / math.log(2)


def mean(x: Tensor, power: int = 1) -> Tensor:
    """Over the dimensions of each image: (N, C, H, W) -> (N,)."""
    return (x if power == 1 else x.square()).flatten(1).mean(1)
