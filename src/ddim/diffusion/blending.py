"""From class to class: a model between two or four, by a fraction or two for each image."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddim.diffusion.around import Around
from ddim.diffusion.guidance import Guidance, Label, guided, labels_of
from ddim.diffusion.model import Denoiser
from ddim.diffusion.process import Prediction
from ddim.diffusion.schedule import Time
from ddim.errors import InputError


@dataclass(frozen=True)
class Blended(Around):
    """(1 − f) ε_a + f ε_b, of two models a and b of one noise schedule; x̂_0 follows. Where f is 0 or 1 for all images,
    one is asked alone; where it is for one of them, its row is that one's.
    """

    model: Denoiser  # a
    other: Denoiser  # b
    fractions: Tensor  # (N,), or (1,) for any number of images

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        """The Prediction at x (N, C, H, W) and t. Raises InputError where there are fractions for another N."""
        if len(self.fractions) not in (1, len(x)):
            raise InputError(f"{len(self.fractions)} fractions for {len(x)} images: give one, or one an image")
        f = self.fractions.to(x).view(-1, 1, 1, 1)
        if (f == 0).all():
            return self.model(x, t)
        if (f == 1).all():
            return self.other(x, t)
        a, b = self.model(x, t), self.other(x, t)
        x0, eps = (torch.where(f == 1, v, torch.lerp(u, v, f)) for u, v in zip(a[:2], b[:2], strict=True))
        return a._replace(x0=x0, eps=eps)


def between(
    model: Denoiser,
    label_0: Label | None,
    label_1: Label | None,
    fractions: Tensor | Sequence[float] | float,
    guidance: float | Guidance = 1.0,
) -> Denoiser:
    """The model on its way from one class to another: ε of both, mixed by the fractions, 0 for the first.

    fractions: one for all images, or one an image of each batch.  label_0, label_1: as for `ddim.guided`; None is no
    class. Raises InputError.
    """
    f = torch.as_tensor(fractions, dtype=torch.float32).reshape(-1)
    if not len(f) or not ((f >= 0) & (f <= 1)).all():
        raise InputError("fractions are numbers from 0 (the first class) to 1 (the second)")
    ends = [guided(model, label, guidance if label is not None else 1.0) for label in (label_0, label_1)]
    return Blended(*ends, f)


def classes_of(model: Denoiser, label: Label | None, ends: int) -> list[int | None]:
    """The number of the class of each end, of one label for all or one an end. Raises InputError."""
    return [None] * ends if label is None else labels_of(model, label, ends).tolist()


def among(model: Denoiser, classes: Sequence[int | None], places: Tensor, guidance: float | Guidance = 1.0) -> Denoiser:
    """The model on its way between the classes of two ends, or over the sheet between those of four, which lie as in
    `slerp_grid`: mixed as by `between`. Between ends of one class it is the model of that class.

    places: (F, 1), or (F, 2) on a sheet: how far down and how far across each image is, 0 … 1.  Raises InputError.
    """

    def way(first: int | None, last: int | None) -> Denoiser:
        if first == last:
            return guided(model, first, guidance)
        return between(model, first, last, places[:, -1], guidance)

    if len(set(classes)) == 1:
        return guided(model, classes[0], guidance)
    if len(classes) == 2:
        return way(*classes)
    return Blended(way(*classes[:2]), way(*classes[2:]), places[:, 0])
