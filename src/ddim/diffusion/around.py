"""A model around a model: it answers otherwise, and is like it in all else."""

import torch
from torch import Tensor, nn

from ddim.diffusion.facts import Facts


class Around:
    """What a model around `model` says of itself, so that it is sampled by the same defaults. An attribute that `model`
    has not is not there either. A subclass has `model` and (x, t) -> Prediction.
    """

    model: "Denoiser"  # noqa: F821

    @property
    def abar(self) -> Tensor:
        return self.model.abar

    @property
    def network(self) -> nn.Module:
        return self.model.network

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.model.shape

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def facts(self) -> Facts:
        return self.model.facts
