"""The walk along a time grid, its steps, and `sample`.

A step function takes the predictions made so far, newest first, and the level ᾱ_s to go to; it returns x_s.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ddim.diffusion import schedule
from ddim.diffusion.model import Clipped, Denoiser, Model
from ddim.diffusion.noise import draws, normal
from ddim.diffusion.process import Prediction, marginal, posterior_mean, sigma, sigma_hat
from ddim.errors import InputError

Step = Callable[[tuple[Prediction, ...], Tensor], Tensor]


def walk(
    model: Denoiser, x: Tensor, times: Sequence[int], step: Step | None = None, order: int = 1
) -> Iterator[tuple[Tensor, Prediction]]:
    """Carry x along `times`: falling times sample, rising times encode. Yields (x, Prediction) after each step.

    x: (N, C, H, W) at times[0]. One network evaluation a step, at the time being left. `order` is how many predictions
    `step` (DDIM's by default) is shown. Nothing is kept: memory does not grow with the number of steps.
    """
    step = step or ddim
    past: tuple[Prediction, ...] = ()
    for t, s in pairwise(times):
        past = (model(x, t), *past)[:order]
        x = step(past, model.abar[s])
        yield x, past[0]


def ddim(past: tuple[Prediction, ...], abar: Tensor) -> Tensor:
    """The deterministic step (12) with σ = 0: x_s = √ᾱ_s x̂_0 + √(1−ᾱ_s) ε. Up or down."""
    return marginal(past[0].x0, past[0].eps, abar)


def stochastic(eta: float | str, noise: Iterator[Tensor]) -> Step:
    """The step (12) with σ(η) (16), or with η = "hat" for σ̂ (D.3), drawing z from `noise`. Down only.

    σ̂ scales the noise alone: in the direction it would make the radicand negative, so that keeps σ(1).
    """

    def step(past: tuple[Prediction, ...], abar: Tensor) -> Tensor:
        abar_t = past[0].abar
        direction = sigma(1.0 if eta == "hat" else eta, abar_t, abar)
        x = posterior_mean(past[0], abar, direction)
        if abar == 1:  # the last step adds no noise: σ(η) is 0 there by itself, σ̂ is not
            return x
        return x + (sigma_hat(abar_t, abar) if eta == "hat" else direction) * next(noise)

    return step


def check_eta(abar: Tensor, times: Sequence[int], eta: float | str) -> None:
    """Raise InputError unless η is "hat" or a number ≥ 0 with σ(η)² ≤ 1−ᾱ_s on every step of `times`."""
    if eta == "hat":
        return
    if isinstance(eta, str) or not math.isfinite(eta) or eta < 0:
        raise InputError(f"eta must be 0 or more, or 'hat'; got {eta}")
    # The radicand 1−ᾱ_s−σ(η)² vanishes at η = √(1−ᾱ_s)/σ(1); the step into the data has σ = 0 whatever η.
    bounds = {((1 - abar[s]).sqrt() / sigma(1.0, abar[t], abar[s])).item(): (t, s) for t, s in pairwise(times) if s > 0}
    if eta > 1 and bounds and eta > (bound := min(bounds)):
        t, s = bounds[bound]
        raise InputError(f"eta {eta} is too large for this grid: at most {bound:.4f}, by its step {t} -> {s}")


def grid(model: Denoiser, steps: int, spacing: str = "linear", times: Sequence[int] | None = None) -> list[int]:
    """The falling time grid of a model: `times` if given (checked), else `steps` evaluations by `spacing`."""
    T = len(model.abar) - 1
    return schedule.check_times(T, times) if times is not None else schedule.times(T, steps, spacing)


def generate(
    model: Model,
    images: Sequence[int],
    times: Sequence[int],
    eta: float | str = 0.0,
    seed: int = 0,
    x: Tensor | None = None,
    clip: bool = False,
) -> Iterator[tuple[Tensor, Prediction]]:
    """Walk one batch, the images numbered `images` of `seed`, down `times`: see `walk`.

    x: their starting noise, by default draw 0 of each image's own stream. The noise of step i is draw i, whatever x.
    """
    check_eta(model.abar, times, eta)
    x = (normal(seed, images, model.shape) if x is None else x).to(model.device)
    step = ddim if eta == 0 else stochastic(eta, draws(seed, images, x.shape[1:], like=x))
    return walk(Clipped(model) if clip else model, x, times, step)


def end(steps: Iterator[tuple[Tensor, Prediction]]) -> Tensor:
    """The x at which a walk ends."""
    ((x, _),) = deque(steps, maxlen=1)
    return x


@torch.no_grad()
def sample(
    model: Model,
    n: int = 16,
    steps: int = 50,
    eta: float | str = 0.0,
    spacing: str = "linear",
    seed: int = 0,
    noise: Tensor | None = None,
    clip: bool = False,
    batch_size: int | None = None,
    times: Sequence[int] | None = None,
) -> Tensor:
    """n pictures, (n, C, H, W) float32 in [−1, 1], on the CPU. Image k of a seed is the same whatever `batch_size`.

    eta: 0 is DDIM, 1 is DDPM, "hat" is DDPM with σ̂.  spacing, steps: see `ddim.schedule.times`; `times`, an explicit
    falling grid, replaces both.  noise: x at the first time, (n, C, H, W), instead of the seed's own.
    clip: clamp each x̂_0 to [−1, 1] and derive ε again.  Raises InputError.
    """
    if noise is not None:
        n = len(noise)
    if n < 1:
        raise InputError(f"n must be at least 1; got {n}")
    path = grid(model, steps, spacing, times)
    batches = []
    for images in chunks(n, default_batch_size(model) if batch_size is None else batch_size):
        x = None if noise is None else noise[images.start : images.stop]
        x = end(generate(model, images, path, eta, seed, x, clip))
        batches.append(x.clamp(-1, 1).float().cpu())
    return torch.cat(batches)


def chunks(n: int, size: int) -> Iterator[range]:
    """range(n) in consecutive ranges of at most `size`."""
    if size < 1:
        raise InputError(f"batch size must be at least 1; got {size}")
    return (range(start, min(start + size, n)) for start in range(0, n, size))


def default_batch_size(model: Model) -> int:
    """A batch that fits half of the free memory, and no larger than pays: 64 on a CPU, 256 on a GPU."""
    _, height, width = model.shape
    channels = getattr(getattr(model.network, "config", None), "block_out_channels", (256,))[0]
    # The widest moment holds the skips and a few temporaries, about sixteen full-resolution maps of float32.
    image = 16 * 4 * channels * height * width
    cuda = model.device.type == "cuda"
    free = torch.cuda.mem_get_info(model.device)[0] if cuda else _free_memory()
    return max(1, min(256 if cuda else 64, int(free // 2 // image)))


def _free_memory() -> int:
    """Free host memory in bytes, as the system tells it; 4 GiB where it does not."""
    try:
        with open("/proc/meminfo") as file:
            kib = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
        return kib * 1024
    except (OSError, StopIteration):
        return 4 * 2**30
