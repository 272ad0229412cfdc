"""Clipping the predicted image x̂_0: a model around a model, and the one rule for whether it is done."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddim.diffusion.process import Prediction, from_x0
from ddim.diffusion.schedule import Time


@dataclass(frozen=True)
class Clip:
    """Clamp x̂_0 to [−range, range] and derive ε again, so that x, x̂_0 and ε still agree.

    keep_eps: leave ε as the network gave it, which is what diffusers' schedulers do.
    """

    range: float = 1.0
    keep_eps: bool = False


@dataclass(frozen=True)
class Clipped:
    """A model whose x̂_0 is clipped."""

    model: "Denoiser"  # noqa: F821
    clip: Clip = Clip()

    @property
    def abar(self) -> Tensor:
        return self.model.abar

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        """The clipped Prediction at x (N, C, H, W) and t. At t = 0, x is the image itself and stays."""
        prediction = self.model(x, t)
        data = prediction.abar == 1  # 0-dim, or (N, 1, 1, 1)
        if data.all():
            return prediction
        x0 = prediction.x0.clamp(-self.clip.range, self.clip.range)
        clipped = Prediction(x0, prediction.eps, prediction.abar)
        if not self.clip.keep_eps:
            clipped = from_x0(x, x0, prediction.abar)
        if not data.any():
            return clipped
        return Prediction(
            torch.where(data, prediction.x0, clipped.x0),
            torch.where(data, prediction.eps, clipped.eps),
            prediction.abar,
        )


def clipping(model, clip: Clip | bool | None = None):
    """The model, clipped or not, by the one rule of precedence: what the caller says (`clip`), else what the model's
    folder says (`model.facts.clip`), else not at all.
    """
    facts = getattr(model, "facts", None)
    said = clip if clip is not None else facts.clip if facts is not None else None
    if said is None or said is False:
        return model
    return Clipped(model, Clip() if said is True else said)
