"""The objective (5) with γ = 1, and the random numbers of a step.

Every random number of step k is a function of (seed, k), so a resumed run needs no generator state to go on exactly as
an unbroken one, and the same global batch is drawn whatever the number of processes.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddim.diffusion.process import marginal


def randomness(seed: int, step: int, shape: tuple[int, ...], T: int) -> tuple[Tensor, Tensor, Tensor]:
    """The random numbers of one step for a whole batch (N, C, H, W), on the CPU.

    Returns times (N,) in 1..T, antithetic: the second half is T+1 minus the first; ε, the shape of the batch; and a
    uniform number an image, (N,), for the flips.
    """
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))
    half = torch.randint(1, T + 1, ((shape[0] + 1) // 2,), generator=generator)
    times = torch.cat([half, T + 1 - half])[: shape[0]]
    return times, torch.randn(shape, generator=generator), torch.rand(shape[0], generator=generator)


def dropped(seed: int, step: int, n: int, rate: float) -> Tensor:
    """Which labels of the n images of a step are left out, (n,) bool: from a stream of their own, so that all else of
    the step is what it is without labels.
    """
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step, 1]).generate_state(1)[0]))
    return torch.rand(n, generator=generator) < rate


def loss_of(network: nn.Module, x0: Tensor, times: Tensor, eps: Tensor, abar: Tensor, *labels: Tensor) -> Tensor:
    """E‖ε − ε_θ(√ᾱ_t x_0 + √(1−ᾱ_t) ε, t)‖² a pixel (5): the objective with γ = 1, as a 0-dim float32 tensor.

    x0, eps: (N, C, H, W).  times: (N,) in 1..T.  abar: (T+1,).  labels: (N,), for a network with classes.
    """
    level = abar.float().to(x0.device)[times][:, None, None, None]  # (N, 1, 1, 1); not every device has float64
    return F.mse_loss(network(marginal(x0, eps, level), times - 1, *labels).float(), eps)


def target(predicts: str, x0: Tensor, eps: Tensor, level: Tensor) -> Tensor:
    """What a network is to answer at ᾱ = `level`: ε, or v = √ᾱ ε − √(1−ᾱ) x_0 (Salimans & Ho 2022, arXiv 2202.00512,
    appendix D)."""
    return eps if predicts == "eps" else marginal(eps, -x0, level)


def loss_of_v(network: nn.Module, x0: Tensor, times: Tensor, eps: Tensor, abar: Tensor, *labels: Tensor) -> Tensor:
    """The same for v in the place of ε."""
    level = abar.float().to(x0.device)[times][:, None, None, None]  # (N, 1, 1, 1)
    out = network(marginal(x0, eps, level), times - 1, *labels).float()
    return F.mse_loss(out, target("v", x0, eps, level))


OBJECTIVES = {"eps": loss_of, "v": loss_of_v}
