"""Losses that train a variance: L_hybrid and L_vlb (Nichol & Dhariwal 2021, arXiv 2102.09672, sections 3.1 and 3.3)."""

import torch.nn.functional as F
from torch import Tensor, nn

from ddim.diffusion.bound import Steps, steps_of, term_of
from ddim.diffusion.process import from_eps, marginal
from ddim.training import resampling

LAMBDA = 0.001  # the share of L_vlb in L_hybrid


def hybrid_loss(network: nn.Module, x0: Tensor, times: Tensor, eps: Tensor, abar: Tensor, *labels: Tensor) -> Tensor:
    """L_simple + 0.001 L_vlb, the latter in bits per dimension and without a gradient to the mean: 0-dim.

    The arguments are those of `loss_of`; the network gives 2C channels, ε and v.
    """
    out = network(noised(x0, times, eps, abar), times - 1, *labels).float()
    predicted, v = out.chunk(2, 1)
    terms = terms_of(x0, times, eps, abar, predicted.detach(), v)
    return F.mse_loss(predicted, eps) + LAMBDA * (len(abar) - 1) * terms.mean()


class ResampledVLB:
    """L_vlb alone, the mean trained by it too, at times drawn by the history of the losses. Called like `loss_of`."""

    def __init__(self, history: Tensor):
        self.history = history  # (T, 10), see `resampling`
        self.seen: list[tuple[Tensor, Tensor]] = []  # times and losses since the last `remember`

    def __call__(self, network: nn.Module, x0: Tensor, times: Tensor, eps: Tensor, abar: Tensor, *labels: Tensor):
        """The mean of T L_t/(T p_t), an unbiased estimate of Σ L_t in bits per dimension: 0-dim."""
        out = network(noised(x0, times, eps, abar), times - 1, *labels).float()
        terms = (len(abar) - 1) * terms_of(x0, times, eps, abar, *out.chunk(2, 1))
        self.seen.append((times, terms.detach()))
        return (resampling.weights(self.history, times).to(terms) * terms).mean()

    def remember(self, accelerator) -> None:
        """After a step: the losses of all processes into the history."""
        for times, terms in self.seen:
            resampling.add(self.history, *(accelerator.gather(value).cpu() for value in (times, terms)))
        self.seen.clear()


def noised(x0: Tensor, times: Tensor, eps: Tensor, abar: Tensor) -> Tensor:
    """x_t (N, C, H, W) for times (N,)."""
    return marginal(x0, eps, abar.float().to(x0.device)[times][:, None, None, None])


def terms_of(x0: Tensor, times: Tensor, eps: Tensor, abar: Tensor, predicted: Tensor, v: Tensor) -> Tensor:
    """L_{t−1} of each image for the ε `predicted` and v at x_t, (N,) bits per dimension: see `bound.term_of`."""
    level = abar.float().to(x0.device)[times][:, None, None, None]
    prediction = from_eps(marginal(x0, eps, level), predicted, level)._replace(variance=v)
    chain = steps_of(abar.flip(0))  # in float64, from T down
    return term_of(x0, prediction, Steps(*(value.flip(0) for value in chain)).at(times - 1, x0), "learned")
