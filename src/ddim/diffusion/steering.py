"""Guidance by any classifier of noisy images: a function (x, t) -> log p."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddim.diffusion.around import Around
from ddim.diffusion.conditioning import shifted
from ddim.diffusion.guidance import Guidance, inside
from ddim.diffusion.model import Denoiser, levels
from ddim.diffusion.process import Prediction
from ddim.diffusion.schedule import Time
from ddim.errors import InputError, shown

LogProbability = Callable[[Tensor, Time], Tensor]  # (x (N, C, H, W), t) -> log p(y | x_t = x), (N,)


@dataclass(frozen=True)
class Steered(Around):
    """ε − s √(1−ᾱ) ∇ log p(y | x), which is the score of p(x) p(y | x)^s (Dhariwal & Nichol 2021, arXiv 2105.05233,
    algorithm 2). `steered` makes such a model. The network is asked once, and only log_p has a gradient.
    """

    model: Denoiser
    log_p: LogProbability
    scale: float = 1.0
    interval: tuple[float, float] | None = None

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        prediction, acts = self.model(x, t), inside(self.interval, t)
        if self.scale == 0 or not acts.any():
            return prediction
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            log_p = self.log_p(leaf, t)
            if not isinstance(log_p, Tensor) or log_p.shape != (len(x),) or not log_p.requires_grad:
                raise InputError(f"log_p must give one number for each image, with its gradient; got {form(log_p)}")
            (slope,) = torch.autograd.grad(log_p.sum(), leaf)
        return shifted(prediction, self.scale * slope * acts.to(x).view(-1, 1, 1, 1))


def steered(
    model: Denoiser, log_p: LogProbability, scale: float = 1.0, interval: Sequence[float] | None = None
) -> Denoiser:
    """The model led by a classifier: it samples p(x) p(y | x)^scale, as far as log_p is right at every level.

    log_p: (x (N, C, H, W), t) -> log p(y | x_t = x), (N,), differentiable in x; its y may differ from image to image.
    scale: 1 is the conditional itself, more makes it plainer; 0 is the model.  interval: the times at which it acts,
    ends included; by default all. It is a model around a model: any solver walks with it. Raises InputError.
    """
    levels(model)
    if not callable(log_p):
        raise InputError(f"log_p is a function (x, t) -> (N,); got {shown(log_p)}")
    way = Guidance(scale, interval)
    return Steered(model, log_p, way.scale, way.interval)


def form(value: object) -> str:
    """A tensor's shape, or a value, in an error's line."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)}{'' if value.requires_grad else ' without gradient'}"
    return shown(value)
