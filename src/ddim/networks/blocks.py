"""The parts of the DDPM U-Net and the configuration that shapes them, as diffusers' `UNet2DModel` names both.

Activations stay channels_last throughout; attention reads them as (N, H·W, C) without a copy.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net, field by field as `unet/config.json` of a diffusers folder stores it.

    The defaults are DDPM's choices rather than diffusers' (see `ddim.config` for a foreign file that omits a field):
    sin‖cos over half−1, downsampling padded on the right and bottom only, GroupNorm eps 1e-6, one attention head.
    """

    sample_size: int | tuple[int, int] = 32
    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (128, 256, 256, 256)
    down_block_types: tuple[str, ...] = ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D")
    up_block_types: tuple[str, ...] = ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    layers_per_block: int = 2
    dropout: float = 0.0
    norm_num_groups: int = 32
    norm_eps: float = 1e-6
    flip_sin_to_cos: bool = False
    freq_shift: int = 1
    downsample_padding: int = 0
    attention_head_dim: int | None = None
    add_attention: bool = True
    mid_block_scale_factor: float = 1.0
    resnet_time_scale_shift: str = "default"
    attn_norm_num_groups: int | None = None
    center_input_sample: bool = False
    downsample_type: str = "conv"  # of the blocks with attention; "resnet" resamples within a residual block
    upsample_type: str = "conv"
    time_embedding_dim: int | None = None
    num_class_embeds: int | None = None  # rows of its table of class embeddings

    num_heads: ClassVar[int | None] = None
    time_scale: ClassVar[float] = 1.0
    patch: ClassVar[int] = 1


@dataclass(frozen=True)
class ExtendedConfig(UNetConfig):
    """With what diffusers has no word for; it cannot open such a network. The first two are improved-diffusion's."""

    num_heads: int | None = None  # the same number of heads at every width; overrides attention_head_dim
    time_scale: float = 1.0  # what the time index is multiplied by before it is embedded
    patch: int = 1  # squares of this many pixels a side become one position, their pixels its channels


def sinusoid(index: Tensor, width: int, flip: bool, shift: int) -> Tensor:
    """Sinusoidal embedding of the network's time index: (N,) -> (N, width), sin‖cos, or cos‖sin if `flip`."""
    half = width // 2
    rates = torch.exp(-math.log(10000) / (half - shift) * torch.arange(half, device=index.device))  # (half,)
    angles = index.float()[:, None] * rates  # (N, half)
    first, second = (angles.cos(), angles.sin()) if flip else (angles.sin(), angles.cos())
    return F.pad(torch.cat([first, second], dim=1), (0, width % 2))


class TimeEmbedding(nn.Module):
    def __init__(self, width: int, out: int):
        super().__init__()
        self.linear_1 = nn.Linear(width, out)
        self.linear_2 = nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class GroupNorm(nn.GroupNorm):
    """As torch's, around two weaknesses of its channels_last kernel on a CPU.

    It sums a map in one float32 run, which loses three of float32's digits on large images; and in bf16 it is up to
    five times slower than in float32 where a group is narrower than a vector, forwards on small maps and backwards on
    all.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        positions = x.shape[2] * x.shape[3]
        if positions > 64 * 64 and x.dtype != torch.bfloat16:
            return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
        narrow = self.num_channels // self.num_groups < 16 and (positions < 32 * 32 or x.requires_grad)
        if x.dtype == torch.bfloat16 and narrow:
            weight, bias = self.weight.float(), self.bias.float()
            return F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)
        return super().forward(x)


def silu(x: Tensor) -> Tensor:
    """SiLU of a tensor that nothing else holds: in place, unless its gradient will ask for what it was."""
    return F.silu(x, inplace=not x.requires_grad)


def halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


def double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Resnet(nn.Module):
    """norm, silu, conv, + time, norm, silu, dropout, conv, + shortcut; `resample` is "down", "up" or "" for neither."""

    def __init__(self, c: UNetConfig, cin: int, cout: int, temb: int, scale: float = 1.0, resample: str = ""):
        super().__init__()
        self.resample = {"": None, "down": halve, "up": double}[resample]
        self.modulate = c.resnet_time_scale_shift == "scale_shift"
        self.scale = scale
        self.norm1 = GroupNorm(c.norm_num_groups, cin, c.norm_eps)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.time_emb_proj = nn.Linear(temb, 2 * cout if self.modulate else cout)
        self.norm2 = GroupNorm(c.norm_num_groups, cout, c.norm_eps)
        self.dropout = nn.Dropout(c.dropout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(cin, cout, 1) if cin != cout else None

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        h = silu(self.norm1(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv1(h)  # (N, cout, H, W)
        time = self.time_emb_proj(temb)[:, :, None, None]
        if self.modulate:
            scale, shift = time.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + time)
        h = self.conv2(self.dropout(silu(h)))
        if self.conv_shortcut is not None:
            x = self.conv_shortcut(x)
        h += x  # in place: a convolution's gradient does not need its result
        return h if self.scale == 1 else h / self.scale


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √width) v, each (N, heads, positions, width).

    On a CPU two plain products are up to four times faster than torch's fused attention, in bf16; where their table of
    weights would be large, fused it stays.
    """
    if q.device.type != "cpu" or q.shape[2] > 32 * 32:
        return F.scaled_dot_product_attention(q, k, v)
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v


class Attention(nn.Module):
    """Self-attention over the H·W positions, with a residual."""

    def __init__(self, c: UNetConfig, channels: int, groups: int | None, scale: float = 1.0):
        super().__init__()
        self.heads = c.num_heads or channels // (c.attention_head_dim or channels)
        self.scale = scale
        self.group_norm = GroupNorm(groups, channels, c.norm_eps) if groups else None
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = self.group_norm(x) if self.group_norm is not None else x
        y = y.permute(0, 2, 3, 1).reshape(n, h * w, c)
        q, k, v = (f(y).view(n, h * w, self.heads, -1).transpose(1, 2) for f in (self.to_q, self.to_k, self.to_v))
        y = attend(q, k, v)  # (N, heads, H·W, C / heads)
        y = self.to_out[0](y.transpose(1, 2).reshape(n, h * w, c))
        return (x + y.view(n, h, w, c).permute(0, 3, 1, 2)) / self.scale


class Downsample(nn.Module):
    def __init__(self, channels: int, padding: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        # DDPM's TensorFlow "SAME" padding: none on the top and left, one on the right and bottom.
        return self.conv(x if any(self.conv.padding) else F.pad(x, (0, 1, 0, 1)))


def doubled(weight: Tensor) -> Tensor:
    """The kernel (C_in, C_out, 4, 4) that makes a transposed convolution of stride 2 the same as doubling a map and
    then convolving it with `weight` (C_out, C_in, 3, 3). Each output sees 2×2 inputs through sums of the weights,
    rather than 3×3 copies of them: 4/9 of the products.
    """
    return F.avg_pool2d(weight.flip(2, 3).transpose(0, 1), 2, stride=1, padding=1, divisor_override=1)


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        if x.device.type != "cpu":  # where the gain was not measured
            return self.conv(double(x))
        weight, bias = doubled(self.conv.weight), self.conv.bias
        if not x.requires_grad:
            return F.conv_transpose2d(x, weight, bias, stride=2, padding=1)
        # Where a transposed convolution adds the bias, oneDNN's gradient of both takes two to three times as long.
        x = F.conv_transpose2d(x, weight, stride=2, padding=1)
        return x.add_(bias.to(x.dtype)[:, None, None])
