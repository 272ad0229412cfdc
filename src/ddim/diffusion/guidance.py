"""Labels and guidance: a class-conditional model, given the class of each image, is a model around a model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral

import torch
from torch import Tensor, nn

from ddim.diffusion.facts import Facts
from ddim.diffusion.model import Denoiser, Model, numbered
from ddim.diffusion.process import Prediction
from ddim.diffusion.schedule import Time
from ddim.errors import InputError

ALL = "all"  # the classes in turn
Label = int | str | Sequence[int | str] | Tensor  # one for all images, or one an image


@dataclass(frozen=True)
class Labelled:
    """A model given the classes of its images: ε = ε_u + s (ε_c − ε_u) (Ho & Salimans 2022), s the guidance.

    ε_c is of the class and ε_u of no class. At s = 1 the first alone is asked, at s = 0 the second alone. `guided`
    makes such a model and checks its parts.
    """

    model: Model
    labels: Tensor  # (N,) int64 on the model's device; (1,) is for any number of images
    guidance: float = 1.0

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

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        """The Prediction at x (N, C, H, W) and t. Raises InputError where there are labels for another N."""
        if len(self.labels) not in (1, len(x)):
            raise InputError(f"{len(self.labels)} labels for {len(x)} images: give one label, or one an image")
        if self.guidance == 0:
            return self.model(x, t)
        of_class = self.model(x, t, self.labels.expand(len(x)))
        if self.guidance == 1:
            return of_class
        # Not one doubled batch: on a CPU that is slower from 16 images on, and rows may differ in their last bit.
        of_none = self.model(x, t)
        # x̂_0 follows the same line as ε, for x is the same; so nothing is divided by √ᾱ, which may be 0.
        x0, eps = (u + self.guidance * (c - u) for u, c in zip(of_none[:2], of_class[:2], strict=True))
        return of_class._replace(x0=x0, eps=eps)


def guided(model: Denoiser, label: Label | None = None, guidance: float = 1.0) -> Denoiser:
    """The model given the class of its images; the model itself without a label, which means no class.

    label: the number or the name of a class for all images, or a sequence or tensor (N,), one an image of each batch.
    guidance: s of `Labelled`; 1 samples the class as the network learned it, more makes it plainer and less various.
    Raises InputError.
    """
    if not math.isfinite(guidance):
        raise InputError(f"guidance must be a finite number; got {guidance}")
    if label is None:
        if guidance != 1:
            remedy = "give a label too" if getattr(model, "classes", ()) else "this model knows none; leave it out"
            raise InputError(f"guidance {guidance:g} leads towards a class: {remedy}")
        if getattr(model, "embeddings", 0):
            model.no_class()
        return model
    labels = labels_of(model, label)
    if guidance != 1 and model.null_label is None:
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


def plain(model: Denoiser, label: Label | None, n: int, guidance: float = 1.0) -> int | str | list[int] | None:
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
    near = get_close_matches(str(label), classes, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise InputError(f"unknown class {label!r}: give {numbered(classes)}{meant}")
