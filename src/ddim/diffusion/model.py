"""The edge between networks and mathematics: network + abar + image shape -> model(x, t) -> Prediction.

Solvers ask a model for nothing but `abar` and the call; whatever is particular to a network is adapted here, once.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from ddim.diffusion.clipping import Clip, clamped
from ddim.diffusion.facts import Facts
from ddim.diffusion.process import Prediction, from_eps, from_v, from_x0
from ddim.diffusion.schedule import Time, check_time, level
from ddim.errors import InputError, choose, shown
from ddim.system import html

PARAMETRISATIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Prediction]] = {
    "eps": from_eps,
    "x0": from_x0,
    "v": from_v,
}


class Denoiser(Protocol):
    """Anything that solvers can walk with."""

    abar: Tensor  # (T+1,) float64

    def __call__(self, x: Tensor, t: Time) -> Prediction: ...


def levels(model: Denoiser) -> Tensor:
    """The model's abar (T+1,). Raises InputError where a value is no model."""
    abar = getattr(model, "abar", None)
    if not isinstance(abar, Tensor) or not callable(model):
        first = f": ddim.load({model!r}) first" if isinstance(model, str) and len(model) < 60 else ""
        raise InputError(
            f"a model is what ddim.load gives, or has abar and is called with (x, t); got {shown(model)}{first}"
        )
    return abar


def check_images(model: Denoiser, x: Tensor) -> None:
    """Raise InputError unless x is (N, C, H, W) of a floating-point type, and of the model's shape where it has one."""
    if not isinstance(x, Tensor):
        raise InputError(f"images are a tensor (N, C, H, W); got {shown(x)}")
    if not x.is_floating_point():
        kind = str(x.dtype).removeprefix("torch.")
        raise InputError(f"images are numbers in [−1, 1]; got {kind}: ddim.data.to_float makes them of 0 … 255")
    shape = getattr(model, "shape", None) or ("C", "H", "W")
    if x.ndim != 4 or (shape[0] != "C" and tuple(x.shape[1:]) != tuple(shape)):
        raise InputError(f"images must be (N, {', '.join(map(str, shape))}); got {tuple(x.shape)}")
    if not len(x):
        raise InputError(f"no images: the tensor has the shape {tuple(x.shape)}")


@dataclass(frozen=True, repr=False)
class Model:
    """A trained network with its noise schedule.

    network: (x (N, C, H, W), index (N,)) -> (N, C, H, W), or (N, 2C, H, W) where it learned the variance of a step too.
    One with classes takes a label (N,) too.
    abar: (T+1,) float64, on the CPU.  shape: (C, H, W).  predicts: "eps", "x0" or "v".
    """

    network: nn.Module
    abar: Tensor
    shape: tuple[int, int, int]
    predicts: str = "eps"
    facts: Facts = field(default_factory=Facts)
    clip: Clip | None = None  # set by `clipping` for a walk; what its folder says of clipping is in `facts`

    def __post_init__(self):
        choose("parametrisation", self.predicts, PARAMETRISATIONS)

    def __repr__(self) -> str:
        channels, height, width = self.shape
        parameters = sum(p.numel() for p in self.network.parameters()) / 1e6
        of = f" of {self.facts.source}" if self.facts.source else ""
        return (
            f"<ddim.Model{of}: {channels}×{height}×{width}, T = {self.T}, predicts {self.predicts}, "
            f"{parameters:.2f} M parameters in {self.facts.precision} on {self.device}>"
        )

    def _repr_html_(self) -> str:
        """A table, in a notebook."""
        channels, height, width = self.shape
        rows = {
            "images": f"{channels}×{height}×{width}",
            "T": self.T,
            "predicts": self.predicts,
            "parameters": f"{sum(p.numel() for p in self.network.parameters()):,}",
            "runs": f"in {self.facts.precision} on {self.device}",
            **({"classes": ", ".join(self.classes[:12])} if self.classes else {}),
            "fingerprint": self.fingerprint,
        }
        return html.table(rows.items(), caption=f"ddim.Model {self.facts.source or ''}".strip())

    @property
    def T(self) -> int:
        """The number of noise levels."""
        return len(self.abar) - 1

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that name the weights and the noise schedule: the same function, the same fingerprint.

        A model in less than float32 keeps the one of the weights that it was rounded from.
        """
        if self.facts.fingerprint:
            return self.facts.fingerprint
        digest = hashlib.sha256(self.abar.numpy().tobytes() + self.predicts.encode())
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().float().cpu().contiguous().numpy())
        return digest.hexdigest()[:16]

    @property
    def identity(self) -> dict[str, str]:
        """What its outputs depend on, as the settings of jobs and records of figures name it."""
        return {"model": self.fingerprint, "precision": self.facts.precision}

    @property
    def learns_variance(self) -> bool:
        """Whether its network tells the variance of a step too, as a place between DDPM's two: `Prediction.variance`.

        diffusers' "learned", as against "learned_range", is a variance itself, which is not used.
        """
        channels = getattr(getattr(self.network, "config", None), "out_channels", self.shape[0])
        return channels == 2 * self.shape[0] and self.facts.scheduler.get("variance_type") != "learned"

    @property
    def embeddings(self) -> int:
        """How many labels its network knows, one that stands for no class included; 0 where it knows none."""
        return getattr(getattr(self.network, "config", None), "num_class_embeds", None) or 0

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes by their number, their numbers where it has no names; empty where it has none."""
        names = self.facts.classes or ()
        if self.embeddings and len(names) in (self.embeddings - 1, self.embeddings):
            return names
        return tuple(map(str, range(self.embeddings)))

    @property
    def null_label(self) -> int | None:
        """The label that stands for no class, the last one, where it was trained with such a label."""
        return len(self.classes) if len(self.classes) < self.embeddings else None

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> "Model":
        """Move the network to a device, or into a precision, in place, and return the model."""
        self.network.to(device=device, dtype=dtype)
        return self

    def __call__(self, x: Tensor, t: Time, labels: Tensor | None = None) -> Prediction:
        """What the network believes of x (N, C, H, W), any float dtype, at time t. Same dtype and device as x.

        t: from 0 to T, whole or between (see `ddim.schedule.level`), or (N,) for a time per image.
        labels: (N,) int64, the classes of the images; by default no class. Raises InputError.
        Below t = 1 there is no network index: the one of t = 1 is asked, and at t = 0 an x0-network's answer is turned
        into ε at level 1, since ε has no meaning at ᾱ = 1.
        """
        t = check_time(self.T, t)
        if isinstance(t, Tensor) and t.ndim and len(t) not in (1, len(x)):
            raise InputError(f"t is for {len(t)} images; x holds {len(x)}")
        weight = next(self.network.parameters())
        inputs = (network_index(t, x), *self._labels(x, labels))
        both = self.network(x.to(weight.dtype), *inputs)
        out = both[:, : x.shape[1]].to(x.dtype)
        here = level(self.abar, t, x)
        asked = level(self.abar, at_least_1(t), x) if self.predicts == "x0" else here
        prediction = PARAMETRISATIONS[self.predicts](x, out, asked)
        if isinstance(t, Tensor):
            x0, eps = torch.where(here == 1, x, prediction.x0), prediction.eps
            prediction = Prediction(x0.to(x.dtype), eps.to(x.dtype), here)
        elif t == 0:
            prediction = Prediction(x, prediction.eps, here)
        if self.learns_variance:
            prediction = prediction._replace(variance=both[:, x.shape[1] :].to(x.dtype))
        return clamped(x, prediction, self.clip) if self.clip else prediction

    def _labels(self, x: Tensor, labels: Tensor | None) -> tuple[Tensor, ...]:
        """What the network takes for the classes of x: nothing, or labels (N,), by default the one of no class."""
        if not self.embeddings:
            if labels is not None:
                raise InputError("this model knows no classes: give no label")
            return ()
        if labels is None:
            labels = torch.full((len(x),), self.no_class(), device=x.device)
        return (labels,)

    def no_class(self) -> int:
        """The label that stands for no class. Raises InputError where it was not trained with one."""
        if self.null_label is None:
            raise InputError(f"this model makes images of a class only: give a label, {numbered(self.classes)}")
        return self.null_label


def numbered(classes: tuple[str, ...]) -> str:
    """Classes in words: their names, a few where they are many, or their numbers where these are all there is."""
    if classes == tuple(map(str, range(len(classes)))):
        return f"a number from 0 to {len(classes) - 1}"
    rest = f" … ({len(classes)} in all)" if len(classes) > 12 else ""
    return f"one of {', '.join(classes[:12])}{rest}"


def network_index(t: Time, x: Tensor) -> Tensor:
    """The network's own time index, t−1 and at least 0: (N,), int64 where t is whole."""
    if isinstance(t, Tensor):
        return (t - 1).clamp(min=0).float().to(x.device)
    return torch.full((len(x),), max(t - 1, 0), device=x.device)


def at_least_1(t: Time) -> Time:
    """t, and 1 in the place of 0."""
    if isinstance(t, Tensor):
        return torch.where(t == 0, 1.0, t)
    return t or 1
