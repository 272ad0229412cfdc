"""Training: the loss (5) with γ = 1, the steps, the averaged weights, and the state that a run goes on from.

Every random number of step k is a function of (seed, k), so a resumed run needs no generator state to go on exactly as
an unbroken one, and the same global batch is drawn whatever the number of processes.
"""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ddim.checkpoints.diffusers_config import narrowest
from ddim.diffusion import schedule
from ddim.diffusion.model import Model
from ddim.diffusion.process import marginal
from ddim.errors import InputError, choose
from ddim.images import batches as data
from ddim.networks.unet import UNet, UNetConfig
from ddim.system.files import folder, replacing
from ddim.training.settings import Preset


def unet_config(preset: Preset) -> UNetConfig:
    """The U-Net a preset asks for. Raises InputError where its numbers do not fit together."""
    p = preset
    halvings = len(p.mult) - 1
    if not p.mult or p.size % (p.patch * 2**halvings):
        patches = f"cut into patches of {p.patch} and " if p.patch > 1 else ""
        raise InputError(f"size {p.size} cannot be {patches}halved {halvings} times: change size or the length of mult")
    if odd := [p.ch * m for m in p.mult if p.ch * m % p.groups or m < 1]:
        raise InputError(f"width {odd[0]} (ch × mult) is not divisible by groups {p.groups}")
    attends = [p.size // p.patch >> level in p.attention for level in range(len(p.mult))]
    return narrowest(
        {
            "sample_size": p.size,
            "in_channels": p.channels,
            "out_channels": p.channels,
            "block_out_channels": tuple(p.ch * m for m in p.mult),
            "down_block_types": tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            "up_block_types": tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
            "layers_per_block": p.layers,
            "norm_num_groups": p.groups,
            "dropout": p.dropout,
            "patch": p.patch,
        }
    )


def build(preset: Preset) -> Model:
    """A new model, its weights decided by the preset's seed."""
    args = {} if preset.schedule == "cosine" else {"beta_1": preset.beta_1, "beta_T": preset.beta_T}
    abar = choose("schedule", preset.schedule, schedule.SCHEDULES)(preset.T, **args)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(preset.seed)
        network = UNet(unet_config(preset))
    return Model(network, abar, (preset.channels, preset.size, preset.size))


def randomness(seed: int, step: int, shape: tuple[int, ...], T: int) -> tuple[Tensor, Tensor, Tensor]:
    """The random numbers of one step for a whole batch (N, C, H, W), on the CPU.

    Returns times (N,) in 1..T, antithetic: the second half is T+1 minus the first; ε, the shape of the batch; and a
    uniform number an image, (N,), for the flips.
    """
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))
    half = torch.randint(1, T + 1, ((shape[0] + 1) // 2,), generator=generator)
    times = torch.cat([half, T + 1 - half])[: shape[0]]
    return times, torch.randn(shape, generator=generator), torch.rand(shape[0], generator=generator)


def loss_of(network: nn.Module, x0: Tensor, times: Tensor, eps: Tensor, abar: Tensor) -> Tensor:
    """E‖ε − ε_θ(√ᾱ_t x_0 + √(1−ᾱ_t) ε, t)‖² a pixel (5): the objective with γ = 1, as a 0-dim float32 tensor.

    x0, eps: (N, C, H, W).  times: (N,) in 1..T.  abar: (T+1,).
    """
    level = abar.to(x0.device)[times].float()[:, None, None, None]  # (N, 1, 1, 1)
    return F.mse_loss(network(marginal(x0, eps, level), times - 1).float(), eps)


def ema(decay: float):
    """The averaging function for `AveragedModel`: decay (1+k)/(10+k) after k updates, until that exceeds `decay`."""

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], updates: Tensor) -> None:
        k = float(updates)
        torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + k) / (10 + k)))

    return update


def rate(preset: Preset, step: int) -> float:
    """The learning rate of a step, counted from 1: a linear rise, then level, or down half a cosine to 0."""
    rise = min(1.0, step / max(preset.warmup, 1))
    fall = 0.5 * (1 + math.cos(math.pi * (step - 1) / preset.steps)) if preset.decay else 1.0
    return preset.lr * rise * fall


@dataclass
class State:
    """Everything a run needs to go on: step `step` has been taken; `pending` losses await the next line of the log."""

    network: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    step: int = 0
    pending: list[float] = field(default_factory=list)

    @classmethod
    def new(cls, preset: Preset, network: nn.Module) -> "State":
        average = AveragedModel(network, multi_avg_fn=ema(preset.ema))
        return cls(network, average, torch.optim.Adam(network.parameters(), lr=preset.lr, fused=True))

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all: on any failure the previous one stays."""
        parts = {name: getattr(self, name).state_dict() for name in ("network", "average", "optimizer")}
        folder(path.parent)
        with replacing(path) as part, open(part, "wb") as file:
            torch.save({"step": self.step, "pending": self.pending, **parts}, file)

    def restore(self, path: Path) -> None:
        """Take over a saved state. Raises InputError where the file is not whole."""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            for name in ("network", "average", "optimizer"):
                getattr(self, name).load_state_dict(content[name])
            self.step, self.pending = content["step"], content["pending"]
        except Exception as error:  # torch.load raises whatever the broken archive provokes
            raise InputError(
                f"{path}: truncated, or not the state of this run; start anew with another --out"
            ) from error


def backward(network: nn.Module, batch: tuple[Tensor, ...], abar: Tensor, parts: int, accelerator) -> Tensor:
    """The loss of a batch (x0, times, eps), 0-dim, its gradients added up: in equal parts, one after another in memory.

    The processes exchange the gradients once, with those of the last part.
    """
    whole = torch.zeros((), device=accelerator.device)
    for k, part in enumerate(zip(*(value.chunk(parts) for value in batch), strict=True), 1):
        with nullcontext() if k == parts else accelerator.no_sync(network):
            with accelerator.autocast():
                loss = loss_of(network, *part, abar) / parts
            accelerator.backward(loss)
        whole += loss.detach()
    return whole


def fit(preset: Preset, state: State, abar: Tensor, pictures: Tensor | data.Pictures, accelerator) -> Iterator[Tensor]:
    """Take the steps that are left, one a `next`; yields the loss of each, 0-dim, still on its device.

    Each process works on its share of the global batch, and the loss is that of the share; what is drawn does not
    depend on how many processes there are, except by dropout.
    """
    p, network = preset, state.network
    wrapped, optimizer = accelerator.prepare(torch.compile(network) if p.compile else network, state.optimizer)
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    index = data.order(len(pictures), p.batch_size, p.seed, state.step)
    stream = data.batches(pictures, (batch[share] for batch in index), p.workers)
    network.train()
    while state.step < p.steps:
        step = state.step + 1
        shape = (p.batch_size, p.channels, p.size, p.size)
        times, eps, coin = (value[share].to(accelerator.device) for value in randomness(p.seed, step, shape, p.T))
        x0 = data.to_float(next(stream).to(accelerator.device, non_blocking=True))  # (N, C, H, W)
        if p.flip:
            x0 = torch.where((coin < 0.5)[:, None, None, None], x0.flip(3), x0)
        if p.dropout:
            torch.manual_seed(p.seed * 2**32 + step * accelerator.num_processes + accelerator.process_index)
        for group in optimizer.param_groups:
            group["lr"] = rate(p, step)
        loss = backward(wrapped, (x0, times, eps), abar, p.accumulate, accelerator)
        accelerator.clip_grad_norm_(network.parameters(), p.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        state.average.update_parameters(network)
        state.step = step
        yield loss
