"""The paper's settings, one row a data set. Every field is an option of `ddim train`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Preset:
    """Everything that decides a training run. The defaults are DDPM's for CIFAR-10, which the paper trained with."""

    data: str = ""
    """Pictures: `digits` (embedded), a folder, a .parquet file, or a Hub id."""
    size: int = 32
    """Height and width; pictures are centre-cropped and resized to it."""
    channels: int = 3
    """1 for greyscale, 3 for RGB."""
    flip: bool = True
    """Flip half of the pictures left to right."""

    ch: int = 128
    """Width of the U-Net at full resolution."""
    mult: tuple[int, ...] = (1, 2, 2, 2)
    """Width multipliers, one a resolution, each half the one before."""
    attention: tuple[int, ...] = (16,)
    """Resolutions with self-attention."""
    layers: int = 2
    """Residual blocks a resolution."""
    patch: int = 1
    """Squares of so many pixels a side are one position of the network: 2 is four times cheaper, and coarser."""
    groups: int = 32
    """Groups of each GroupNorm."""
    dropout: float = 0.1
    """Dropout probability within residual blocks."""

    T: int = 1000
    """Noise levels."""
    schedule: Literal["linear", "scaled-linear", "cosine"] = "linear"
    """Noise schedule."""
    beta_1: float = 1e-4
    """First β of the linear schedules."""
    beta_T: float = 0.02
    """Last β of the linear schedules."""

    steps: int = 800_000
    """Optimiser steps."""
    batch_size: int = 128
    """Pictures a step, over all processes."""
    accumulate: int = 1
    """Parts in which each process computes its share of a step, one after another: less memory, the same step."""
    lr: float = 2e-4
    """Adam's learning rate."""
    warmup: int = 5000
    """Steps over which the learning rate rises from 0."""
    decay: bool = False
    """Let the learning rate fall to 0 along half a cosine by the last step."""
    grad_clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.9999
    """Decay of the weight average; early on (1 + step)/(10 + step) where that is smaller, so that short runs work."""
    seed: int = 0
    """Decides the initial weights, the order of the pictures, and every random number of every step."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the network: auto is bf16 where the device multiplies it by itself, else fp32."""

    compile: bool = False
    """Compile the network first, on a GPU: a minute of waiting, then faster steps."""

    log_every: int = 50
    """Steps between lines of log.jsonl."""
    sample_every: int = 10_000
    """Steps between sample grids."""
    save_every: int = 5000
    """Steps between saved states."""
    workers: int = 4
    """Processes that decode pictures, for sets too large to keep in memory."""


PRESETS = {
    "digits": Preset(
        data="digits",
        size=8,
        channels=1,
        flip=False,
        ch=16,
        mult=(2, 3),
        attention=(),
        layers=1,
        groups=16,
        dropout=0.0,
        precision="fp32",  # so small a network gains nothing from bf16
        steps=2500,
        lr=2e-3,
        warmup=200,
        decay=True,
        ema=0.999,
        log_every=1,
        sample_every=500,
        save_every=500,
    ),
    "cifar10": Preset(data="uoft-cs/cifar10"),
    "celeba": Preset(size=64, mult=(1, 2, 2, 2, 4), steps=500_000),
    # 96 = 2·48 = 4·24 = 8·12: no 16×16, so the attention sits at the nearest resolution that there is.
    "stl10": Preset(size=96, mult=(1, 2, 2, 2, 4), attention=(12,), steps=500_000),
    "bedroom": Preset(
        size=256,
        mult=(1, 1, 2, 2, 4, 4),
        dropout=0.0,
        steps=2_400_000,
        batch_size=64,
        lr=2e-5,
    ),
    "church": Preset(
        size=256,
        mult=(1, 1, 2, 2, 4, 4),
        dropout=0.0,
        steps=4_400_000,
        batch_size=64,
        lr=2e-5,
    ),
}
