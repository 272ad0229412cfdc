"""Clipping the predicted image x̂_0, and the one rule for whether it is done."""

from dataclasses import dataclass, replace
from numbers import Real

import torch
from torch import Tensor

from ddim.diffusion.process import Prediction, from_x0
from ddim.diffusion.schedule import Time
from ddim.errors import InputError, shown


@dataclass(frozen=True)
class Clip:
    """Clamp x̂_0 to [−range, range] at the levels ᾱ < below, and derive ε again, so that x, x̂_0 and ε still agree.

    keep_eps: leave ε as the network gave it, which is what diffusers' schedulers do.
    below: 1 clips at every level; x̂_0 = (x − √(1−ᾱ) ε)/√ᾱ magnifies the network's errors most where ᾱ is small.
    Both numbers are above 0. Raises InputError.
    """

    range: float = 1.0
    keep_eps: bool = False
    below: float = 1.0

    def __post_init__(self) -> None:
        """Raise InputError where the range or the level cannot be."""
        for name in ("range", "below"):
            if isinstance(value := getattr(self, name), bool) or not isinstance(value, Real) or not value > 0:
                raise InputError(f"the {name} of clipping must be a number above 0; got {shown(value)}")


@dataclass(frozen=True)
class Clipped:
    """A model whose x̂_0 is clipped."""

    model: "Denoiser"  # noqa: F821
    clip: Clip = Clip()

    @property
    def abar(self) -> Tensor:
        return self.model.abar

    @property
    def shape(self) -> tuple[int, int, int] | None:
        return getattr(self.model, "shape", None)

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        """The clipped Prediction at x (N, C, H, W) and t. At t = 0, x is the image itself and stays."""
        return clamped(x, self.model(x, t), self.clip)


def clamped(x: Tensor, prediction: Prediction, clip: Clip) -> Prediction:
    """The Prediction of x (N, C, H, W), clipped."""
    free = (prediction.abar >= clip.below) | (prediction.abar == 1)  # 0-dim, or (N, 1, 1, 1)
    if free.all():
        return prediction
    x0 = prediction.x0.clamp(-clip.range, clip.range)
    clipped = prediction._replace(x0=x0)
    if not clip.keep_eps:
        clipped = clipped._replace(eps=from_x0(x, x0, prediction.abar).eps)
    if not free.any():
        return clipped
    x0, eps = (torch.where(free, a, b) for a, b in zip(prediction[:2], clipped[:2], strict=True))
    return prediction._replace(x0=x0.to(x.dtype), eps=eps.to(x.dtype))


# What `Model`s are sampled with by default: clipped where there is more noise than signal, 1 − ᾱ > ᾱ, and x̂_0 therefore
# holds a multiple of the network's error. A network of little training, or any at ᾱ near 0, gives noise without it, and
# a finished one loses nothing by it: docs/evaluation.md has the measurements.
NOISY = Clip(below=0.5)


def clipping(model, clip: Clip | bool | None = None):
    """The model that clips or does not, by the one rule of precedence: what the caller says (`clip`), else what the
    model's folder says (`model.facts.clip`), else where there is more noise than signal. A model without facts, which
    is not known to be of images in [−1, 1], is left alone unless the caller says. Raises InputError.
    """
    facts = getattr(model, "facts", None)
    chosen = clip
    if chosen is None and facts is not None:
        chosen = facts.clip if facts.clip is not None else NOISY
    if chosen is None or chosen is False:
        return model
    if chosen is not True and not (isinstance(chosen, Clip) and chosen.range > 0):
        raise InputError(f"clip is True, False, None, or a ddim.Clip with a range above 0; got {chosen!r:.60}")
    chosen = Clip() if chosen is True else chosen
    return replace(model, clip=chosen) if hasattr(model, "clip") else Clipped(model, chosen)
