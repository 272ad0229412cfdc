"""Noise levels drawn by the history of their losses (Nichol & Dhariwal 2021, arXiv 2102.09672, section 3.3): p_t in
proportion to √E[L_t²] over the last ten losses of t, which makes the estimate of Σ L_t vary least. Each loss is
weighted by 1/(T p_t), so the estimate stays unbiased.

A history is a tensor (T, 10) of losses, NaN where there are fewer, on the CPU; row i is of t = i + 1.
"""

import numpy as np
import torch
from torch import Tensor

KEPT = 10  # losses of each t
UNIFORM = 0.001  # of all draws, whatever the losses


def empty(T: int) -> Tensor:
    return torch.full((T, KEPT), float("nan"), dtype=torch.float64)


def chances(history: Tensor) -> Tensor:
    """p_t, (T,): equal until every t has ten losses."""
    T = len(history)
    if history.isnan().any():
        return torch.full((T,), 1 / T, dtype=torch.float64)
    sizes = history.square().mean(1).sqrt()
    return (1 - UNIFORM) * sizes / sizes.sum() + UNIFORM / T


def draw(history: Tensor, seed: int, step: int, n: int) -> Tensor:
    """n times in 1..T, (n,) int64, by p_t: from a stream of their own for each step."""
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step, 2]).generate_state(1)[0]))
    return torch.multinomial(chances(history), n, replacement=True, generator=generator) + 1


def weights(history: Tensor, times: Tensor) -> Tensor:
    """1/(T p_t) of times (N,): (N,) float64."""
    return 1 / (len(history) * chances(history)[times.cpu() - 1])


def add(history: Tensor, times: Tensor, losses: Tensor) -> None:
    """Let losses (N,) at times (N,), none negative, take the places of the oldest ones of their t."""
    for t, loss in zip(times.tolist(), losses.tolist(), strict=True):
        row = history[t - 1]
        row[:-1] = row[1:].clone()
        row[-1] = loss
