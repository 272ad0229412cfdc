"""Going through the latent space by choosing: a sheet of latents, the neighbours of one of them, and so on."""

from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from ddim.diffusion.interpolation import slerp
from ddim.diffusion.model import Denoiser
from ddim.diffusion.noise import normal
from ddim.diffusion.sampling import image_shape
from ddim.errors import InputError, check_whole, listed, shown


def neighbours(z: Tensor, n: int = 9, distance: float = 0.3, seed: int = 0) -> Tensor:
    """Latents about z (1, C, H, W): itself, then n − 1 others, (n, C, H, W).

    Each lies on the sphere's way (D.5) from z to a noise of its own, draw 0 of image 1 … n−1 of `seed`, at the fraction
    `distance`: 0 is z, 1 is that noise. So they are distributed as z is. Raises InputError.
    """
    check_whole("n", n)
    if isinstance(distance, bool) or not isinstance(distance, Real) or not 0 <= distance <= 1:
        raise InputError(f"a distance is a number from 0 to 1; got {shown(distance)}")
    others = normal(seed, range(1, n), z.shape[1:]).to(z)  # (n−1, C, H, W)
    return torch.cat([z, slerp(z.expand_as(others), others, distance)]) if n > 1 else z


def nearby(
    model: Denoiser,
    choices: Sequence[int] = (),
    distance: float | Sequence[float] = 0.3,
    n: int = 9,
    seed: int = 0,
    shape: tuple[int, int, int] | None = None,
) -> Tensor:
    """The sheet of latents (n, C, H, W) that choices lead to: `ddim.sample(model, noise=…)` makes its images.

    The first sheet is the noise of images 0 … n−1 of `seed`. Each choice, the number of an image of the sheet so far,
    leads to the `neighbours` of its latent, itself first, with the noise of the next seed. distance: one for all
    choices, or one a choice. Raises InputError.
    """
    check_whole("n", n)
    choices = listed("choices", choices)
    far = [distance] * len(choices) if isinstance(distance, Real) else listed("distance", distance)
    if len(far) != len(choices):
        raise InputError(f"{len(far)} distances for {len(choices)} choices: give one, or one a choice")
    sheet = normal(seed, range(n), image_shape(model, shape))
    for turn, (choice, fraction) in enumerate(zip(choices, far, strict=True), 1):
        check_whole("a choice", choice, 0)
        if choice >= n:
            raise InputError(f"the images of a sheet have the numbers 0 to {n - 1}; {choice} was chosen")
        sheet = neighbours(sheet[choice : choice + 1], n, fraction, seed + turn)
    return sheet
