"""Bits per dimension of 8-bit images, by the variational bound or along DDIM's ODE."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ddim.diffusion import flow
from ddim.diffusion.bound import BIN, Bound, bound, prior_of
from ddim.diffusion.clipping import Clip, clipping
from ddim.diffusion.guidance import Label, guided, labels_of
from ddim.diffusion.model import Denoiser, check_images, levels
from ddim.diffusion.noise import check_seed, draws, normal
from ddim.diffusion.sampling import chunks, default_batch_size
from ddim.diffusion.schedule import Time, grid, level
from ddim.diffusion.solvers import VARIANCES, Implicit, Solver, check_variance, find
from ddim.diffusion.solvers.inversion import Exact
from ddim.errors import InputError, check_whole, choose, shown
from ddim.system.progress import progress as progress_bar

METHODS = {"vlb": "the variational bound", "ode": "the change of variables along DDIM's ODE"}
EXACT = 256  # dimensions up to which the trace is exact by default
PROBES = 2  # beyond, by default
DEQUANTISE, PROBE = 1, 2  # draws of an image's stream: the place within its bins, and the first probe


@dataclass(frozen=True)
class Likelihood:
    """Bits per dimension of N images: less is better."""

    method: str
    bits: Tensor  # (N,) float64
    times: Sequence[Time]
    evaluations: int  # of the network, for each image; where images differ, the most
    bound: Bound | None = None  # of vlb: what the bits are the sum of
    probes: int | None = None  # of ode: Hutchinson's, an image; 0 for the exact trace
    probe_error: float | None = None  # of ode: the standard error of the mean that the probes leave
    halved: Tensor | None = None  # (N,) of ode: the bits with half the steps
    gap: Tensor | None = None  # (N,) of ode: what the way from t = 1 to the data would add

    @property
    def mean(self) -> float:
        return self.bits.mean().item()

    @property
    def error(self) -> float:
        """The standard error of the mean over the images; NaN for one image."""
        return (self.bits.std() / math.sqrt(len(self.bits))).item()


@dataclass(frozen=True)
class Way:
    """How likelihoods are measured, checked; see `likelihood` for what each is."""

    method: str
    times: list[Time]  # falling; those of ode end at 1
    halved: list[Time] | None = None
    solver: Solver | None = None
    probes: int = 0
    variance: str = "small"
    clip: Clip | bool | None = None
    seed: int = 0

    def evaluations(self) -> int:
        """Of the network, for each image, as far as they can be known before."""
        if self.method == "vlb":
            return len(self.times) - 1
        paths = [self.times[::-1]] + ([self.halved[::-1]] if self.halved else [])
        return sum(self.solver.evaluations(path) or len(path) - 1 for path in paths) + bool(self.halved)


def likelihood(
    model: Denoiser,
    images: Tensor,
    method: Literal["vlb", "ode"] = "vlb",
    steps: int | None = None,
    spacing: str | None = None,
    solver: str | Solver = "unipc",
    variance: str | None = None,
    clip: Clip | bool | None = True,
    probes: int | None = None,
    check: bool = True,
    seed: int = 0,
    label: Label | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> Likelihood:
    """Bits per dimension of 8-bit images (N, C, H, W): uint8, or what `ddim.data.to_float` makes of it.

    vlb: a bound on −log p of the chain over `steps` levels, by default all; spacing, variance and clip as in `sample`,
    by default linear, what the network learned or else small, and clipped.
    ode: −log p along the ODE from t = 1 on, whose state x̄ the dequantised images are taken for; over `steps` intervals
    (200) spread by `spacing` (log-snr), by a `solver` without noise. probes: of Hutchinson's estimator, 0 for the exact
    trace; by default that up to 256 dimensions, else 2. check: where there are two steps or more, also with half
    of them, and the gap to the data.
    Image k gets the noise of image k of the seed. label: as in `sample`. Raises InputError.
    """
    check_images(model, images := eight_bit(images))
    way = way_of(model, images.shape[1:], method, steps, spacing, solver, variance, clip, probes, check, seed)
    n, parts = len(images), []
    labels = None if label is None else labels_of(model, label, n)
    guided(model, labels)
    size = default_batch_size(model, images.shape[1:]) if batch_size is None else batch_size
    with progress_bar("likelihood", n * way.evaluations(), show=progress) as advance:
        for indices in chunks(n, size):
            some = images[indices.start : indices.stop].to(getattr(model, "device", "cpu"))
            known = guided(model, None if labels is None else labels[indices.start : indices.stop])
            parts.append(of_batch(known, some, indices, way, partial(advance, len(indices))))
    return together(parts)


def eight_bit(images: Tensor) -> Tensor:
    """Images as float32 in [−1, 1]. Raises InputError where they are not of 8 bits."""
    if isinstance(images, Tensor) and images.dtype == torch.uint8:
        return images.float() / 127.5 - 1
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise InputError(f"likelihood takes images of 8 bits, a tensor (N, C, H, W) of uint8; got {shown(images)}")
    values = (images.double() + 1) * 127.5
    if not (((values - values.round()).abs() < 1e-3) & (values > -0.5) & (values < 255.5)).all():
        raise InputError("the images are not of 8 bits, k/127.5 − 1 for k = 0 … 255: round them by ddim.data.to_uint8")
    return images


def way_of(
    model: Denoiser, shape: Sequence[int], method: str, steps, spacing, solver, variance, clip, probes, check, seed
) -> Way:
    """How to measure. Raises InputError where that cannot be."""
    choose("method", method, METHODS), check_seed(seed)
    T = len(levels(model)) - 1
    if steps is not None:
        check_whole("steps", steps)
    if method == "vlb":
        if variance is None:
            variance = "learned" if getattr(model, "learns_variance", False) else "small"
        choose("variance", variance, dict.fromkeys(VARIANCES)), check_variance(model, variance)
        times = grid(model.abar, T if steps is None else steps, spacing or "linear")
        return Way(method, times, variance=variance, clip=clip, seed=seed)
    how, precision = find(solver), getattr(getattr(model, "facts", None), "precision", "fp32")
    if precision != "fp32":
        raise InputError(f"method ode takes derivatives, which a network in {precision} has not: choose fp32")
    if isinstance(how, Exact | Implicit):
        raise InputError(f"solver {how.name} inverts sampling, and has no density: choose unipc, heun or ddim")
    if probes is None:
        probes = 0 if math.prod(shape) <= EXACT else PROBES
    elif probes:
        check_whole("probes", probes)
    steps = min(200, T) if steps is None else steps
    times, halved = (from_one(model.abar, S, spacing or "log-snr") for S in (steps, max(1, steps // 2)))
    return Way(method, times, halved if check and steps > 1 else None, how, probes, seed=seed)


def from_one(abar: Tensor, steps: int, spacing: str) -> list[Time]:
    """A falling grid of so many intervals from T to 1: that of the spacing, with 1 in the place of its 0."""
    path = grid(abar, steps, spacing)
    if path[-2] > 1:
        return [*path[:-1], 1]
    return grid(abar, steps + 1, spacing)[:-1] if steps < len(abar) - 1 else path[:-1]


def of_batch(model: Denoiser, images: Tensor, indices: range, way: Way, after: Callable[[], None]) -> Likelihood:
    """The likelihood of the images numbered `indices`, (N, C, H, W) float32 of 8-bit values."""
    if way.method == "vlb":
        return by_bound(model, images, indices, way, after)
    return by_flow(model, images, indices, way, after)


@torch.no_grad()
def by_bound(model: Denoiser, images: Tensor, indices: range, way: Way, after: Callable[[], None]) -> Likelihood:
    noise = draws(way.seed, indices, images.shape[1:], like=images)
    chain = torch.stack([level(levels(model), t) for t in way.times])
    rows = []
    for row in bound(clipping(model, way.clip), images, chain, way.times, way.variance, noise):
        rows.append(torch.stack(row))
        after()
    terms, x0_error, eps_error = torch.stack(rows, 2).double().cpu()  # (3, N, S)
    found = Bound(prior_of(images.double(), chain[0]).cpu(), terms, x0_error, eps_error)
    return Likelihood("vlb", found.total, way.times, way.evaluations(), found)


def by_flow(model: Denoiser, images: Tensor, indices: range, way: Way, after: Callable[[], None]) -> Likelihood:
    shape, seed = images.shape[1:], way.seed
    place = torch.special.ndtr(normal(seed, indices, shape, DEQUANTISE).double()) - 0.5  # uniform
    x, asked = images + 2 * BIN * place.to(images), []

    def counted() -> None:
        asked.append(1)
        after()

    z = [normal(seed, indices, shape, PROBE + k).sign() for k in range(way.probes)]  # Rademacher
    z = torch.stack(z).to(images.device) if z else None

    def bits(rising: Sequence[Time]) -> Tensor:  # (N, K)
        nats = flow.log_density(model, x, rising, way.solver, z, counted).double().cpu()
        return -(nats / x[0].numel() + math.log(2 * BIN)) / math.log(2)

    found, halved, gap = bits(way.times[::-1]), None, None
    if way.halved:
        halved = bits(way.halved[::-1]).mean(1)
        gap = -flow.noise_at_1(model, x, z, counted).double().cpu() / x[0].numel() / math.log(2)
    error = (found.var(1).sum() / way.probes).sqrt().item() / len(x) if way.probes > 1 else None
    return Likelihood("ode", found.mean(1), way.times, len(asked), None, way.probes, error, halved, gap)


def together(parts: Sequence[Likelihood]) -> Likelihood:
    """Of several batches as one."""
    first, n = parts[0], sum(len(part.bits) for part in parts)
    joined = {"bits": torch.cat([part.bits for part in parts]), "evaluations": max(p.evaluations for p in parts)}
    if first.bound:
        joined["bound"] = Bound(*map(torch.cat, zip(*(part.bound for part in parts), strict=True)))
    for name in ("halved", "gap"):
        if getattr(first, name) is not None:
            joined[name] = torch.cat([getattr(part, name) for part in parts])
    if first.probe_error is not None:
        squares = sum((part.probe_error * len(part.bits)) ** 2 for part in parts)
        joined["probe_error"] = math.sqrt(squares) / n
    return Likelihood(**{**vars(first), **joined})
