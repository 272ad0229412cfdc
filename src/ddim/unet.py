"""The DDPM U-Net (Ho et al. 2020, appendix B), with diffusers' `UNet2DModel` parameter names and configuration fields.

Only torch is imported. Activations stay channels_last throughout; attention reads them as (N, H·W, C) without a copy.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net, field by field as `unet/config.json` of a diffusers folder stores it.

    The defaults are DDPM's choices rather than diffusers' (see `ddim.convert` for a foreign file that omits a field):
    sin‖cos over half−1, downsampling padded on the right and bottom only, GroupNorm eps 1e-6, one attention head.
    """

    sample_size: int = 32
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


class Resnet(nn.Module):
    """norm, silu, conv, + time, norm, silu, dropout, conv, + shortcut."""

    def __init__(self, c: UNetConfig, cin: int, cout: int, temb: int, scale: float = 1.0):
        super().__init__()
        self.modulate = c.resnet_time_scale_shift == "scale_shift"
        self.scale = scale
        self.norm1 = nn.GroupNorm(c.norm_num_groups, cin, c.norm_eps)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.time_emb_proj = nn.Linear(temb, 2 * cout if self.modulate else cout)
        self.norm2 = nn.GroupNorm(c.norm_num_groups, cout, c.norm_eps)
        self.dropout = nn.Dropout(c.dropout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(cin, cout, 1) if cin != cout else None

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # (N, cout, H, W)
        time = self.time_emb_proj(temb)[:, :, None, None]
        if self.modulate:
            scale, shift = time.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + time)
        h = self.conv2(self.dropout(F.silu(h)))
        if self.conv_shortcut is not None:
            x = self.conv_shortcut(x)
        return x + h if self.scale == 1 else (x + h) / self.scale


class Attention(nn.Module):
    """Self-attention over the H·W positions, with a residual."""

    def __init__(self, c: UNetConfig, channels: int, groups: int | None, scale: float = 1.0):
        super().__init__()
        self.heads = channels // (c.attention_head_dim or channels)
        self.scale = scale
        self.group_norm = nn.GroupNorm(groups, channels, c.norm_eps) if groups else None
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = self.group_norm(x) if self.group_norm is not None else x
        y = y.permute(0, 2, 3, 1).reshape(n, h * w, c)
        q, k, v = (f(y).view(n, h * w, self.heads, -1).transpose(1, 2) for f in (self.to_q, self.to_k, self.to_v))
        y = F.scaled_dot_product_attention(q, k, v)  # (N, heads, H·W, C / heads)
        y = self.to_out[0](y.transpose(1, 2).reshape(n, h * w, c))
        return (x + y.view(n, h, w, c).permute(0, 3, 1, 2)) / self.scale


class Downsample(nn.Module):
    def __init__(self, channels: int, padding: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        # DDPM's TensorFlow "SAME" padding: none on the top and left, one on the right and bottom.
        return self.conv(x if any(self.conv.padding) else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Block(nn.Module):
    """One resolution: resnets, each followed by attention if the block has it, then a change of resolution."""

    def __init__(self, c: UNetConfig, pairs: list[tuple[int, int]], temb: int, attention: bool):
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(c, cin, cout, temb) for cin, cout in pairs)
        width = pairs[-1][1]
        layers = len(pairs) if attention else 0
        self.attentions = nn.ModuleList(Attention(c, width, c.norm_num_groups) for _ in range(layers))

    def layer(self, i: int, x: Tensor, temb: Tensor) -> Tensor:
        x = self.resnets[i](x, temb)
        return self.attentions[i](x) if len(self.attentions) else x


class Down(Block):
    def __init__(self, c: UNetConfig, pairs: list[tuple[int, int]], temb: int, attention: bool, last: bool):
        super().__init__(c, pairs, temb, attention)
        width = pairs[-1][1]
        self.downsamplers = nn.ModuleList([] if last else [Downsample(width, c.downsample_padding)])

    def forward(self, x: Tensor, temb: Tensor, skips: list[Tensor]) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.layer(i, x, temb)
            skips.append(x)
        for downsample in self.downsamplers:
            x = downsample(x)
            skips.append(x)
        return x


class Up(Block):
    def __init__(self, c: UNetConfig, pairs: list[tuple[int, int]], temb: int, attention: bool, last: bool):
        super().__init__(c, pairs, temb, attention)
        self.upsamplers = nn.ModuleList([] if last else [Upsample(pairs[-1][1])])

    def forward(self, x: Tensor, temb: Tensor, skips: list[Tensor]) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.layer(i, torch.cat([x, skips.pop()], dim=1), temb)
        for upsample in self.upsamplers:
            x = upsample(x)
        return x


class Mid(nn.Module):
    def __init__(self, c: UNetConfig, width: int, temb: int):
        super().__init__()
        scale = c.mid_block_scale_factor
        groups = c.attn_norm_num_groups or (c.norm_num_groups if c.resnet_time_scale_shift == "default" else None)
        self.resnets = nn.ModuleList(Resnet(c, width, width, temb, scale) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(c, width, groups, scale)] if c.add_attention else [])

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        x = self.resnets[0](x, temb)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x, temb)


class UNet(nn.Module):
    """(x, index) -> (N, out_channels, H, W), for x (N, in_channels, H, W) and the network's time index t−1, shape (N,).

    H and W must be divisible by 2 once per resolution but the last.
    """

    def __init__(self, config: UNetConfig):
        super().__init__()
        c = self.config = config
        widths, layers = c.block_out_channels, c.layers_per_block
        temb, last = 4 * widths[0], len(widths) - 1
        self.conv_in = nn.Conv2d(c.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], temb)

        self.down_blocks = nn.ModuleList()
        skips = [widths[0]]  # the widths that the up path will be handed, in the order they are made
        for level, (cin, cout) in enumerate(pairwise((widths[0], *widths))):
            pairs = [(cin, cout)] + [(cout, cout)] * (layers - 1)
            attention = c.down_block_types[level] == "AttnDownBlock2D"
            self.down_blocks.append(Down(c, pairs, temb, attention, last=level == last))
            skips += [cout] * (layers + (level != last))

        self.mid_block = Mid(c, widths[-1], temb)

        self.up_blocks = nn.ModuleList()
        cin = widths[-1]
        for level, cout in enumerate(reversed(widths)):
            pairs = [((cin if i == 0 else cout) + skips.pop(), cout) for i in range(layers + 1)]
            attention = c.up_block_types[level] == "AttnUpBlock2D"
            self.up_blocks.append(Up(c, pairs, temb, attention, last=level == last))
            cin = cout

        self.conv_norm_out = nn.GroupNorm(c.norm_num_groups, widths[0], c.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], c.out_channels, 3, padding=1)
        self.apply(_ddpm_init)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        c = self.config
        x = x.contiguous(memory_format=torch.channels_last)
        x = 2 * x - 1 if c.center_input_sample else x
        embedding = sinusoid(index, c.block_out_channels[0], c.flip_sin_to_cos, c.freq_shift)  # (N, width) float32
        temb = F.silu(self.time_embedding(embedding.to(x.dtype)))  # (N, temb); each resnet wants it activated
        x = self.conv_in(x)
        skips = [x]
        for block in self.down_blocks:
            x = block(x, temb, skips)
        x = self.mid_block(x, temb)
        for block in self.up_blocks:
            x = block(x, temb, skips)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def _ddpm_init(module: nn.Module) -> None:
    """DDPM's initialisation: uniform with variance 1/fan_avg, zero biases, and zero for what ends a residual branch."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    ends = {Resnet: "conv2", Attention: "to_out", UNet: "conv_out"}.get(type(module))
    for end in getattr(module, ends).modules() if ends else ():
        if hasattr(end, "weight"):
            nn.init.zeros_(end.weight)
