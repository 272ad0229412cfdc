"""Restoring images from what is known of them: inpainting, super-resolution, colouring, deblurring."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from ddim.diffusion.clipping import Clip, clipping
from ddim.diffusion.conditioning import DPS, Covariance, PiGDM, Projected, Resampled, blocks
from ddim.diffusion.course import course
from ddim.diffusion.guidance import Guidance, Label, guided, labels_of
from ddim.diffusion.model import Denoiser, levels
from ddim.diffusion.noise import check_seed, draws, normal
from ddim.diffusion.operators import Inpainting, Operator
from ddim.diffusion.sampling import chunks, default_batch_size, image_shape
from ddim.diffusion.schedule import Time
from ddim.diffusion.solvers import Solver, check_eta, ddim, with_noise
from ddim.diffusion.walk import Moment, walk
from ddim.errors import InputError, check_whole, choose, shown
from ddim.system.progress import progress as progress_bar

# How a method takes y in, and what it needs.
METHODS = {
    "projection": "x̂_0 with y put in (DDNM; with resample, RePaint): no gradients",
    "pigdm": "x̂_0 moved by the gradient of log p(y | x_t), in closed form (ΠGDM)",
    "dps": "each step less the gradient of the distance to y (DPS)",
}
GRADIENTS = ("pigdm", "dps")
APART = 2**32  # between the streams of noise of an image's answers; and between draws for different uses
OWN = APART  # the draw of a stream from which edits take noise: an image may have been sampled from draws 0, 1, …


def stream(k: int, answers: int) -> int:
    """The number of the noise of answer k % answers of image k // answers, whatever the number of answers."""
    return k // answers + APART * (k % answers)


def restoring(
    model: Denoiser,
    y: Tensor,
    operator: Operator,
    times: Sequence[Time],
    streams: Sequence[int],
    method: str = "projection",
    solver: str | Solver = "ddim",
    eta: float | str = 1.0,
    seed: int = 0,
    noise: float = 0.0,
    resample: int = 1,
    scale: float = 1.0,
    covariance: Covariance | None = None,
    clip: Clip | bool | None = None,
    label: Label | None = None,
    guidance: float | Guidance = 1.0,
    shape: Sequence[int] | None = None,
    jump: int = 1,
) -> Iterator[Moment]:
    """The walk of one batch down `times`, in `blocks` of `jump` steps, to images that y (N, …) could be of: see
    `restore`, which finishes them.

    streams: the numbers (N,) of each image's noise.
    """
    shape, device = image_shape(model, shape), getattr(model, "device", "cpu")
    y, operator = y.to(device), operator.to(device)
    x = normal(seed, streams, shape, OWN).to(y)
    steps = draws(seed, streams, shape, like=x, first=OWN + 1)
    inner = with_noise(solver, eta, "small", steps)
    if resample > 1:
        back = draws(seed, streams, shape, like=x, first=2 * APART)
        inner = Resampled(inner=inner, times=resample, noise=back, grid=tuple(times))
        times = blocks(times, jump)
    model = clipping(guided(model, label, guidance), clip)
    if method == "projection":
        return walk(Projected(model, y, operator, noise), x, times, inner)
    if method == "pigdm":
        return walk(PiGDM(model, y, operator, noise, covariance), x, times, inner)
    return walk(model, x, times, DPS(inner=inner, y=y, operator=operator, scale=scale))


@torch.no_grad()
def restore(
    model: Denoiser,
    y: Tensor,
    operator: Operator,
    method: str = "projection",
    answers: int = 1,
    steps: int = 100,
    spacing: str = "linear",
    times: Sequence[Time] | None = None,
    solver: str | Solver = "ddim",
    eta: float | str = 1.0,
    seed: int = 0,
    noise: float = 0.0,
    resample: int = 1,
    scale: float = 1.0,
    covariance: Covariance | None = None,
    clip: Clip | bool | None = None,
    batch_size: int | None = None,
    shape: tuple[int, int, int] | None = None,
    progress: bool = False,
    label: Label | None = None,
    guidance: float | Guidance = 1.0,
    jump: int = 1,
) -> Tensor:
    """Images that y could be of, (N·answers, C, H, W) in [−1, 1] on the CPU: the answers of y[0] first.

    y: (N, …), what `operator` knows of N images, with noise of deviation `noise` in it. Without noise, what is known
    returns: the pixels outside a mask to the last bit.
    operator: of `ddim.operators`, as `Inpainting(mask)`, `SuperResolution(4)`, `Colouring()`, `Blur(1.0)`.
    method: "projection" puts y into each x̂_0, "pigdm" and "dps" follow gradients through the network, which has to be
    in float32; docs/editing.md says which when.  resample: RePaint's resamplings, for "projection", of each step, or of
    `jump` steps together.  scale: of DPS's gradient.  covariance: of x_0 given x_t, for "pigdm"; see
    `ddim.diffusion.conditioning`.
    steps, spacing, times, solver, eta, seed, clip: as in `ddim.sample`. Answer j of image i is the same whatever
    `answers` and the batch. label: the class of all images, or one an image. Raises InputError.
    """
    way = (method, answers, steps, spacing, times, solver, eta, noise, resample, jump)
    path, solver = checked(model, y, operator, *way)
    check_seed(seed), check_scale(scale)
    shape = checked_shape(model, y, operator, shape)
    labels = None if label is None else labels_of(model, label, len(y))
    guided(model, labels, guidance)
    made, total = [], len(y) * answers
    size = default_batch_size(model, shape) if batch_size is None else batch_size
    bar = progress_bar("restoring", total * (len(blocks(path, jump)) - 1)) if progress else nullcontext(lambda n: None)
    with bar as advance:
        for batch in chunks(total, size):
            rows, part = part_of(operator, batch, answers)
            given = None if labels is None else labels[rows]
            how = (method, solver, eta, seed, noise, resample, scale, covariance, clip, given, guidance, shape, jump)
            for moment in restoring(model, y[rows], part, path, [stream(k, answers) for k in batch], *how):
                advance(len(batch))
            made.append(finished(moment.x.cpu(), y[rows].cpu(), part, noise))
    return torch.cat(made)


@torch.no_grad()
def inpaint(model: Denoiser, images: Tensor, mask: Tensor, **how) -> Tensor:
    """Images (N, C, H, W) in [−1, 1] with what is white in the mask made anew, (N·answers, C, H, W).

    mask: (H, W), or (N, 1, H, W) for one an image; 1 or True (white) is made anew, 0 or False (black) returns to the
    last bit. The rest as for `restore`. Raises InputError.
    """
    return restore(model, images, Inpainting(mask), **how)


def part_of(operator: Operator, batch: range, answers: int) -> tuple[list[int], Operator]:
    """Of which images a batch of answers is, and the operator of these."""
    rows = [k // answers for k in batch]
    return rows, operator.part(rows)


def finished(x: Tensor, y: Tensor, operator: Operator, noise: float = 0.0, rounds: int = 30) -> Tensor:
    """x (N, C, H, W) clamped to [−1, 1]; without noise, with y put in, as far as that leaves it there: by turns."""
    x = x.clamp(-1, 1)
    if noise:
        return x
    for _ in range(1 if isinstance(operator, Inpainting) else rounds):
        x = operator.fixed(x, y).clamp(-1, 1)
    return x


def checked(
    model: Denoiser,
    y,
    operator,
    method: str,
    answers: int,
    steps: int,
    spacing: str,
    times,
    solver,
    eta,
    noise,
    resample,
    jump: int = 1,
) -> tuple[list[Time], Solver]:
    """The grid and the solver. Raises InputError where something cannot be restored so."""
    levels(model), choose("method", method, METHODS), check_whole("answers", answers), check_whole("resample", resample)
    if not isinstance(operator, Operator):
        raise InputError(f"the operator is one of ddim.operators, as Inpainting(mask); got {shown(operator)}")
    if not isinstance(y, Tensor) or y.ndim != 4 or not y.is_floating_point() or not len(y):
        raise InputError(f"what is known is a tensor (N, C, H, W) of numbers in [−1, 1]; got {shown(y)}")
    if not y.isfinite().all():
        raise InputError("what is known holds NaN or infinity")
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise < math.inf:
        raise InputError(f"noise is a deviation, 0 or more; got {shown(noise)}")
    path, found = course(model, solver, steps, spacing, times)
    check_eta(levels(model), path, eta)
    with_noise(found, eta, "small", iter(()))
    if method == "dps" and found is not ddim:
        raise InputError(f"method dps takes steps of ddim only: leave out solver {found.name}")
    if method != "projection" and resample > 1:
        raise InputError(f"resample belongs to method projection: leave it out with method {method}")
    check_whole("jump", jump)
    if jump > 1 and resample == 1:
        raise InputError(f"a jump of {jump} steps goes back for resample to take them again: give resample 2 or more")
    if jump > len(path) - 1:
        raise InputError(f"jump must be from 1 to {len(path) - 1}, the number of steps; got {jump}")
    precision = getattr(getattr(model, "facts", None), "precision", "fp32")
    if method in GRADIENTS and precision != "fp32":
        raise InputError(f"method {method} needs gradients through the network, which is in {precision}: take fp32")
    return path, found


def check_scale(scale: float) -> None:
    """Raise InputError unless DPS's scale is a number above 0."""
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise InputError(f"scale must be a number above 0; got {shown(scale)}")


def checked_shape(model: Denoiser, y: Tensor, operator: Operator, shape: Sequence[int] | None) -> tuple[int, int, int]:
    """The shape (C, H, W) of the images. Raises InputError where y cannot be of these."""
    shape = image_shape(model, shape)
    if tuple(y.shape[1:]) != (expected := operator.shape(shape)):
        sizes = ["×".join(map(str, s)) for s in (shape, expected, y.shape[1:])]
        raise InputError(f"{operator.name} makes {sizes[1]} of images of {sizes[0]}; what is known has {sizes[2]}")
    if isinstance(operator, Inpainting) and len(operator.mask) not in (1, len(y)):
        raise InputError(f"{len(operator.mask)} masks for {len(y)} images: give one mask, or one an image")
    return shape
