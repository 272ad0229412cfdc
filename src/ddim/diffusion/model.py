"""The edge between networks and mathematics: network + abar + picture shape -> model(x, t) -> Prediction.

Samplers ask a model for nothing but `abar` and the call; whatever is particular to a network is adapted here, once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from ddim.diffusion.process import Prediction, from_eps, from_v, from_x0
from ddim.errors import InputError, choose

PARAMETRISATIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Prediction]] = {
    "eps": from_eps,
    "x0": from_x0,
    "v": from_v,
}


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Denoiser(Protocol):
    """Anything that samplers can walk with."""

    abar: Tensor  # (T+1,) float64

    def __call__(self, x: Tensor, t: int) -> Prediction: ...


@dataclass(frozen=True)
class Model:
    """A trained network with its noise schedule.

    network: (x (N, C, H, W), index (N,)) -> (N, ≥C, H, W); channels past C (a learned variance) are dropped.
    abar: (T+1,) float64, on the CPU.  shape: (C, H, W).  predicts: "eps", "x0" or "v".
    """

    network: nn.Module
    abar: Tensor
    shape: tuple[int, int, int]
    predicts: str = "eps"
    info: dict = field(default_factory=dict)  # where it came from, for people to read

    def __post_init__(self):
        choose("parametrisation", self.predicts, PARAMETRISATIONS)

    @property
    def T(self) -> int:
        """The number of noise levels."""
        return len(self.abar) - 1

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> "Model":
        """Move the network to a device, or into a precision, in place, and return the model."""
        self.network.to(device=device, dtype=dtype)
        return self

    def __call__(self, x: Tensor, t: int) -> Prediction:
        """What the network believes of x (N, C, H, W), any float dtype, at time t in 0..T. Same dtype and device as x.

        At t = 0 there is no network index: the one of t = 1 is asked (equations: "at t = 0 query index 0"), and an
        x0-network's answer is turned into ε at that level, since ε has no meaning at ᾱ = 1.
        """
        if not 0 <= t <= self.T:
            raise InputError(f"t must be from 0 to {self.T}; got {t}")
        weight = next(self.network.parameters())
        index = torch.full((len(x),), max(t - 1, 0), device=x.device)  # (N,) int64
        out = self.network(x.to(weight.dtype), index)[:, : x.shape[1]].to(x.dtype)
        level = max(t, 1) if self.predicts == "x0" else t
        prediction = PARAMETRISATIONS[self.predicts](x, out, self.abar[level])
        return prediction if t > 0 else Prediction(x, prediction.eps, self.abar[0])


@dataclass(frozen=True)
class Clipped:
    """A model whose x̂_0 is clamped to [−1, 1], with ε derived again so that x, x̂_0 and ε still agree."""

    model: Denoiser

    @property
    def abar(self) -> Tensor:
        return self.model.abar

    def __call__(self, x: Tensor, t: int) -> Prediction:
        prediction = self.model(x, t)
        # At ᾱ = 1, x is the picture itself and there is no noise to derive.
        return from_x0(x, prediction.x0.clamp(-1, 1), prediction.abar) if t > 0 else prediction
