"""Directions to change images along: in latents, and in the features in the middle of the U-Net (h-space, Kwon et al.
2022, arXiv 2210.10960), as the mean difference of two kinds of images or as principal components.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ddim.diffusion.around import Around
from ddim.diffusion.guidance import Labelled
from ddim.diffusion.model import Denoiser, Model, levels
from ddim.diffusion.process import Prediction
from ddim.diffusion.schedule import Time
from ddim.diffusion.solvers import find
from ddim.errors import InputError, check_whole, shown

Shift = Callable[[Time], Tensor | None]  # of middle features, (c, h, w) or (N, c, h, w), at a time


def middle_of(model: Denoiser) -> nn.Module:
    """The block in the middle of a model's U-Net. Raises InputError where it has none."""
    levels(model)
    middle = getattr(getattr(model, "network", None), "mid_block", None)
    if not isinstance(middle, nn.Module):
        raise InputError(f"middle features need a model with a U-Net of ours; got {shown(model)}")
    return middle


@contextmanager
def hooked(module: nn.Module, hook: Callable) -> Iterator[None]:
    """Call a forward hook of a module meanwhile."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class Shifted(Around):
    """A model whose middle features are moved: by shift(t), (c, h, w) for all images or (N, c, h, w), where it is not
    None. Where both branches of guidance are asked at once, both are moved.
    """

    model: Model | Labelled
    shift: Shift

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        move = self.shift(t)
        if move is None:
            return self.model(x, t)

        def hook(module: nn.Module, given: tuple, out: Tensor) -> Tensor:
            by = move.to(out)
            return out + (by.repeat(len(out) // len(by), 1, 1, 1) if by.ndim == 4 else by)

        with hooked(middle_of(self.model), hook):
            return self.model(x, t)


@torch.no_grad()
def middle_along(model: Model | Labelled, x: Tensor, times: Sequence[Time]) -> tuple[Tensor, Tensor]:
    """DDIM's walk from x (N, C, H, W) along `times`: where it ends, and the middle features at each time that it
    leaves, (len(times) − 1, N, c, h, w). Raises InputError.
    """
    seen: list[Tensor] = []
    with hooked(middle_of(model), lambda module, given, out: seen.append(out[: len(x)].float().cpu())):
        for t, s in pairwise(times):
            x = find("ddim").step(model, x, t, s, None)[0]
    return x, torch.stack(seen)


def mean_difference(values: Tensor, of: Tensor) -> Tensor:
    """The mean of the values (…, N, C, H, W) that are `of` a kind, (N,) of bool, less the mean of the others: (…, C, H,
    W). Raises InputError where there are none of one kind.
    """
    if not of.any() or of.all():
        raise InputError("a direction needs images of both kinds; one of them has none")
    return values[..., of, :, :, :].mean(-4) - values[..., ~of, :, :, :].mean(-4)


def separation(values: Tensor, of: Tensor, direction: Tensor) -> float:
    """d′ of two kinds of values (N, C, H, W) along a direction: the difference of their means over their deviation.

    On other values than those that the direction was found from: along the mean difference of N values of D numbers,
    white noise itself separates its own N by about 2 √(D/N).
    """
    along = values.flatten(1) @ direction.flatten()
    yes, no = along[of], along[~of]
    return ((yes.mean() - no.mean()) / ((yes.var() + no.var()) / 2).sqrt()).item()


@dataclass(frozen=True)
class Principal:
    """Principal components of values (N, …)."""

    components: Tensor  # (k, …), each of norm 1
    deviations: Tensor  # (k,) of the values along them, widest first
    shares: Tensor  # (k,) of the variance
    white: Tensor  # (k,) the shares that as many values of white noise would have


@torch.no_grad()
def principal(values: Tensor, k: int = 6) -> Principal:
    """The k widest principal components of values (N, …), from the inner products of the N, which may be few and long.
    A component's sign is such that its largest entry is positive. Raises InputError.
    """
    check_whole("components", k)
    n, flat = len(values), values.flatten(1)  # (N, D)
    if n < 2 or k > min(n - 1, flat.shape[1]):
        raise InputError(f"{n} images have {max(0, min(n - 1, flat.shape[1]))} components at most; asked for {k}")
    flat = flat - flat.mean(0)
    sizes, sides = torch.linalg.eigh((flat @ flat.T).double())  # squared singular values, rising
    sizes, sides = sizes.flip(0).clamp(min=0), sides.flip(1)
    rows = sides[:, :k].T.to(flat) @ flat
    rows = rows / rows.norm(dim=1, keepdim=True)
    rows = rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()
    noise = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    noise = noise - noise.mean(0)
    white = torch.linalg.eigvalsh((noise @ noise.T).double()).flip(0)
    deviations = (sizes[:k] / (n - 1)).sqrt()
    return Principal(
        rows.view(k, *values.shape[1:]), deviations.to(values), (sizes / sizes.sum())[:k], (white / white.sum())[:k]
    )


def moved(z: Tensor, direction: Tensor, by: Tensor | float) -> Tensor:
    """Latents z (N, C, H, W) moved along a direction, back on the sphere that they came from: noise has that norm."""
    found = z + by * direction
    norm = lambda v: v.flatten(1).norm(dim=1).view(-1, 1, 1, 1)  # noqa: E731
    return found * (norm(z) / norm(found))
