"""Labels and guidance: a class-conditional model, given the class of each image, is a model around a model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from torch import Tensor

from ddim.diffusion.around import Around
from ddim.diffusion.model import Denoiser, Model, levels, numbered
from ddim.diffusion.process import Prediction, from_x0
from ddim.diffusion.schedule import Time
from ddim.errors import InputError, did_you_mean, listed, shown

ALL = "all"  # the classes in turn
Label = int | str | Sequence[int | str] | Tensor  # one for all images, or one an image


@dataclass(frozen=True)
class Guidance:
    """How a class leads: by how much, at which times, and with which contrast.

    scale: s of `Labelled`.  interval: (low, high), the times at which it acts, ends included; at the others the class
    alone is asked, at half the cost (Kynkäänniemi et al. 2024, arXiv 2404.07724). By default at all times.
    rescale: φ from 0 to 1: how far x̂_0 is brought back to the deviation that it has for the class alone, of all pixels
    of an image (Lin et al. 2023, arXiv 2305.08891, eq. 15 and 16). Raises InputError.
    """

    scale: float = 1.0
    interval: tuple[float, float] | None = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.scale, bool) or not isinstance(self.scale, Real) or not math.isfinite(self.scale):
            raise InputError(f"guidance must be a finite number; got {shown(self.scale)}")
        if isinstance(self.rescale, bool) or not isinstance(self.rescale, Real) or not 0 <= self.rescale <= 1:
            raise InputError(f"the rescaling of guidance must be from 0 to 1; got {shown(self.rescale)}")
        if self.interval is not None:
            object.__setattr__(self, "interval", checked_interval(self.interval))

    @classmethod
    def of(cls, value: "float | dict | Guidance") -> "Guidance":
        """A guidance, of its scale alone, or as a settings file keeps it."""
        return value if isinstance(value, Guidance) else cls(**value) if isinstance(value, dict) else cls(value)

    def doubles(self, t: Time) -> Tensor:
        """Whether both branches are asked at a time, or for each image at its own: a bool, 0-dim or (N,)."""
        return inside(self.interval, t) & (self.scale not in (0, 1))

    def __str__(self) -> str:
        between = f" at times {self.interval[0]:g} to {self.interval[1]:g}" if self.interval else ""
        return f"{self.scale:g}{between}" + (f", rescaled by {self.rescale:g}" if self.rescale else "")


def kept(guidance: float | Guidance) -> float | dict:
    """A guidance as a settings file keeps it: its scale alone where nothing else is said."""
    way = Guidance.of(guidance)
    if way == Guidance(way.scale):
        return float(way.scale)
    return {"scale": way.scale, "interval": way.interval and list(way.interval), "rescale": way.rescale}


def checked_interval(interval: Sequence[float]) -> tuple[float, float]:
    """An interval of times as a pair. Raises InputError unless it is two numbers of 0 or more that rise."""
    pair = tuple(listed("the interval of guidance", interval))
    if len(pair) != 2 or not all(isinstance(t, Real) and math.isfinite(t) for t in pair) or not 0 <= pair[0] < pair[1]:
        raise InputError(f"the interval of guidance is two times, the lower first; got {', '.join(map(str, pair))}")
    return pair


def inside(interval: tuple[float, float] | None, t: Time) -> Tensor:
    """Whether a time lies in an interval, or each of (N,)."""
    t = torch.as_tensor(t)
    return torch.ones_like(t, dtype=torch.bool) if interval is None else (t >= interval[0]) & (t <= interval[1])


@dataclass(frozen=True)
class Labelled(Around):
    """A model given the classes of its images: ε = ε_u + s (ε_c − ε_u) (Ho & Salimans 2022), s the guidance.

    ε_c is of the class and ε_u of no class: one evaluation of both, for twice the images. At s = 1 the first alone is
    asked, at s = 0 the second alone. `guided` makes such a model and checks its parts.
    """

    model: Model
    labels: Tensor  # (N,) int64 on the model's device; (1,) is for any number of images
    guidance: Guidance = Guidance()

    def __post_init__(self) -> None:
        object.__setattr__(self, "guidance", Guidance.of(self.guidance))

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        """The Prediction at x (N, C, H, W) and t. Raises InputError where there are labels for another N."""
        if len(self.labels) not in (1, len(x)):
            raise InputError(f"{len(self.labels)} labels for {len(x)} images: give one label, or one an image")
        labels, way = self.labels.expand(len(x)), self.guidance
        acts = inside(way.interval, t)
        if way.scale == 1 or not acts.any():
            return self.model(x, t, labels)
        if way.scale == 0 and acts.all():
            return self.model(x, t)
        nothing = torch.full_like(labels, self.model.no_class())
        times = torch.cat([t, t]) if isinstance(t, Tensor) and t.ndim and len(t) > 1 else t
        both = self.model(torch.cat([x, x]), times, torch.cat([labels, nothing]))
        abar = both.abar[: len(x)] if both.abar.ndim and len(both.abar) > 1 else both.abar
        of_class, of_none = (Prediction(*parts, abar) for parts in zip(*(p.chunk(2) for p in both[:2]), strict=True))
        if both.variance is not None:  # what was learned of it goes with the class
            of_class = of_class._replace(variance=both.variance[: len(x)])
        led = rescaled(x, led_by(of_class, of_none, way.scale), of_class, way.rescale if way.scale else 0.0)
        if acts.all():
            return led
        acts = acts.to(x.device).view(-1, 1, 1, 1)
        x0, eps = (torch.where(acts, a, b) for a, b in zip(led[:2], of_class[:2], strict=True))
        return led._replace(x0=x0, eps=eps)


def led_by(of_class: Prediction, of_none: Prediction, scale: float) -> Prediction:
    """ε_u + s (ε_c − ε_u). x̂_0 follows the same line as ε, for x is the same; so nothing is divided by √ᾱ, which may
    be 0.
    """
    x0, eps = (u + scale * (c - u) for u, c in zip(of_none[:2], of_class[:2], strict=True))
    return of_class._replace(x0=x0, eps=eps)


def rescaled(x: Tensor, led: Prediction, of_class: Prediction, share: float) -> Prediction:
    """The Prediction of x with x̂_0 brought back by a share to the deviation of x̂_0 for the class alone; ε follows."""
    if not share or (led.abar == 1).any():
        return led
    of, to = (p.x0.std((1, 2, 3), keepdim=True) for p in (led, of_class))  # (N, 1, 1, 1)
    x0 = led.x0 * (share * to / of.clamp(min=1e-12) + 1 - share)
    return led._replace(x0=x0, eps=from_x0(x, x0, led.abar).eps.to(x.dtype))


def guided(model: Denoiser, label: Label | None = None, guidance: float | Guidance = 1.0) -> Denoiser:
    """The model given the class of its images; the model itself without a label, which means no class.

    label: the number or the name of a class for all images, or a sequence or tensor (N,), one an image of each batch.
    guidance: s of `Labelled`; 1 samples the class as the network learned it, more makes it plainer and less varied. Or
    a `ddim.Guidance`, with an interval or a rescaling. Raises InputError.
    """
    guidance = Guidance.of(guidance)
    if guidance.interval and guidance.interval[1] > (T := len(levels(model)) - 1):
        raise InputError(f"the interval of guidance must lie in 0..{T}; got {guidance.interval[1]:g}")
    if label is None:
        if guidance != Guidance():
            remedy = "give a label too" if getattr(model, "classes", ()) else "this model knows none; leave it out"
            raise InputError(f"guidance {guidance} leads towards a class: {remedy}")
        if getattr(model, "embeddings", 0):
            model.no_class()
        return model
    labels = labels_of(model, label)
    if guidance.scale != 1 and model.null_label is None:
        raise InputError("this model was not trained without a class, so it cannot be guided: leave out guidance")
    return Labelled(model, labels.to(model.device), guidance)


def labels_of(model: Denoiser, label: Label, n: int | None = None) -> Tensor:
    """The numbers of classes, (n,) int64; without n, (1,) for one class, else one for each that is named.

    label: the number or the name of a class, a sequence or tensor of n of them, or "all" for the classes in turn: image
    k is of class k mod K, so it does not depend on n. Raises InputError.
    """
    classes = getattr(model, "classes", ())
    if not classes:
        raise InputError("this model knows no classes: give no label")
    if isinstance(label, str) and label == ALL and ALL not in classes:
        return torch.arange(n or len(classes)) % len(classes)
    if isinstance(label, Integral | str):
        return torch.full((n or 1,), number_of(classes, label))
    if isinstance(label, float):
        raise InputError(f"unknown class {label}: give {numbered(classes)}")
    values = label.tolist() if isinstance(label, Tensor) else list(label)
    if not isinstance(values, list):  # of a tensor of no dimensions
        return labels_of(model, values, n)
    if not values or (n is not None and len(values) != n):
        raise InputError(f"{len(values)} labels for {n or 'some'} images: give one label, or one an image")
    return torch.tensor([number_of(classes, value) for value in values])


def plain(
    model: Denoiser, label: Label | None, n: int, guidance: float | Guidance = 1.0
) -> int | str | list[int] | None:
    """A label for n images as a settings file keeps it: as "all", a number, or n numbers. Raises InputError, also where
    it cannot be guided so.
    """
    numbers = None if label is None else labels_of(model, label, n)
    guided(model, numbers, guidance)
    if numbers is None:
        return None
    numbers = numbers.tolist()
    if isinstance(label, Integral | str):
        return ALL if label == ALL and ALL not in model.classes else numbers[0]
    return numbers


def in_turn(model: Denoiser, about: int = 16) -> Tensor:
    """Labels (n,) for a sheet of about so many images: the classes in turn, up to `about` of them, each as often."""
    rows = min(len(model.classes), about)
    return labels_of(model, ALL, rows * max(1, round(about / rows)))


def number_of(classes: tuple[str, ...], label: int | str) -> int:
    """The number of a class that is named or numbered. Raises InputError where there is none."""
    if isinstance(label, str):
        if label in classes:
            return classes.index(label)
        if label.isdecimal():
            return number_of(classes, int(label))
    elif isinstance(label, Integral) and 0 <= label < len(classes):
        return int(label)
    raise InputError(f"unknown class {label!r}: give {numbered(classes)}{did_you_mean(str(label), classes)}")
