"""`sample`, and the walk of one numbered batch that sampling jobs are made of."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from math import prod

import torch
from torch import Tensor

from ddim.diffusion.clipping import Clip, clipping
from ddim.diffusion.course import sampling_course
from ddim.diffusion.guidance import Guidance, Label, guided, labels_of
from ddim.diffusion.model import Denoiser, check_images, levels
from ddim.diffusion.noise import check_seed, draws, normal
from ddim.diffusion.schedule import Time
from ddim.diffusion.solvers import Solver, check_eta, check_variance, clip_with, of_model, with_noise
from ddim.diffusion.walk import Moment, walk
from ddim.errors import InputError, check_whole
from ddim.system.machine import free_memory
from ddim.system.progress import progress as progress_bar


def generate(
    model: Denoiser,
    indices: Sequence[int],
    times: Sequence[Time],
    eta: float | str = 0.0,
    seed: int = 0,
    x: Tensor | None = None,
    clip: Clip | bool | None = None,
    solver: str | Solver = "ddim",
    variance: str = "small",
    shape: Sequence[int] | None = None,
    label: Label | None = None,
    guidance: float | Guidance = 1.0,
) -> Iterator[Moment]:
    """Walk one batch, the images numbered `indices` of `seed`, down `times`: see `ddim.walk`.

    x: their starting noise (N, C, H, W), by default draw 0 of each image's own stream. The noise of step i is draw i,
    whatever x. label: for all, or one an image. The rest as for `sample`. Raises InputError.
    """
    check_eta(levels(model), times, eta, variance), check_variance(model, variance)
    device = getattr(model, "device", "cpu")
    x = (normal(seed, indices, image_shape(model, shape)) if x is None else x).to(device)
    own = of_model(model, solver, len(times) - 1)
    chosen = with_noise(own, eta, variance, draws(seed, indices, x.shape[1:], like=x))
    return walk(clipping(guided(model, label, guidance), clip_with(own, clip)), x, times, chosen)


@torch.no_grad()
def sample(
    model: Denoiser,
    n: int | None = None,
    steps: int | None = None,
    eta: float | str | None = None,
    spacing: str | None = None,
    seed: int = 0,
    noise: Tensor | None = None,
    clip: Clip | bool | None = None,
    batch_size: int | None = None,
    times: Sequence[Time] | None = None,
    solver: str | Solver | None = None,
    variance: str = "small",
    shape: tuple[int, int, int] | None = None,
    progress: bool = False,
    label: Label | None = None,
    guidance: float | Guidance = 1.0,
) -> Tensor:
    """n images, (n, C, H, W) in [−1, 1], on the CPU. Image k of a seed is the same whatever `batch_size`.

    n: by default 16, or as many as `noise` is for.
    model: a `ddim.Model`, or anything with `abar` and `(x, t) -> Prediction`; the latter needs the images' `shape`.
    steps, spacing: see `ddim.schedule.times`; `times`, an explicit falling grid, replaces both.
    solver: a name of `ddim.SOLVERS`, "tuned" for what `ddim.tune` found, or a value. What is left out of these is as
    `ddim.diffusion.course.manner` says; solver="ddim" alone is the paper's.
    eta: 0 is DDIM, 1 is DDPM; by default 0, and 1 for a young network where no solver is named and no `noise` given.
    variance: "small" is σ(η), "large" is σ̂ of DDPM; eta="hat" means both at once; "learned" is what a network learned
    between the two, at η = 1.
    noise: x at the first time, (n, C, H, W), instead of the seed's own; the images have its dtype, else float32.
    clip: clamp each x̂_0; by default as the model's folder says, else where there is more noise than signal, and never
    with a tuned solver: see `ddim.diffusion.clipping`. The paper's own samples have clip=False.
    progress: show a bar.
    label: the class of the images, where the model knows classes: a number or a name; a sequence or a tensor of n; or
    "all", the classes in turn. By default no class.  guidance: see `ddim.guided`. Raises InputError.
    """
    levels(model)
    if noise is not None:
        check_images(model, noise)
        if n not in (None, len(noise)):
            raise InputError(f"noise is for {len(noise)} images, and n is {n}: leave out n")
    n = (16 if noise is None else len(noise)) if n is None else n
    check_whole("n", n)
    shape = image_shape(model, shape if noise is None else noise.shape[1:])
    if (size := 4 * n * prod(shape)) > free_memory(torch.device("cpu")):
        raise InputError(f"{n:,} images take {size / 2**30:,.0f} GiB of memory: take fewer, or ddim.sample_files")
    check_seed(seed)
    eta = 0.0 if (noise is not None, eta, variance) == (True, None, "small") else eta  # a latent has one image
    path, solver, _, _, eta = sampling_course(model, steps, spacing, times, solver, eta, variance)
    labels = None if label is None else labels_of(model, label, n)
    batches = list(chunks(n, default_batch_size(model, shape) if batch_size is None else batch_size))
    made = []
    bar = progress_bar("sampling", n * (len(path) - 1)) if progress else nullcontext(lambda n: None)
    with bar as advance:
        for indices in batches:
            x = None if noise is None else noise[indices.start : indices.stop]
            given = None if labels is None else labels[indices.start : indices.stop]
            for moment in generate(model, indices, path, eta, seed, x, clip, solver, variance, shape, given, guidance):
                advance(len(indices))
            made.append(moment.x.clamp(-1, 1).cpu())
    return torch.cat(made)


def image_shape(model: Denoiser, shape: Sequence[int] | None = None) -> tuple[int, int, int]:
    """(C, H, W): as given, else the model's own. Raises InputError where neither is known."""
    found = shape if shape is not None else getattr(model, "shape", None)
    if not isinstance(found, Sequence) or len(found) != 3 or not all(isinstance(n, int) and n > 0 for n in found):
        raise InputError(f"the images need a shape (C, H, W): pass shape=…; got {found!r:.60}")
    return tuple(found)


def chunks(n: int, size: int) -> Iterator[range]:
    """range(n) in consecutive ranges of at most `size`."""
    check_whole("batch size", size)
    return (range(start, min(start + size, n)) for start in range(0, n, size))


def default_batch_size(model: Denoiser, shape: Sequence[int] | None = None) -> int:
    """A batch that fits half of the free memory, and no larger than pays: 64 on a CPU, 256 on a GPU."""
    _, height, width = image_shape(model, shape)
    network, device = getattr(model, "network", None), torch.device(getattr(model, "device", "cpu"))
    channels = getattr(getattr(network, "config", None), "block_out_channels", (256,))[0]
    # The widest moment holds the skips and a few temporaries, about sixteen full-resolution maps of float32.
    image = 16 * 4 * channels * height * width
    return max(1, min(256 if device.type == "cuda" else 64, int(free_memory(device) // 2 // image)))
