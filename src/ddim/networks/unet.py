"""The DDPM U-Net (Ho et al. 2020, appendix B), with diffusers' `UNet2DModel` parameter names and configuration."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddim.networks.blocks import (
    Attention,
    Downsample,
    GroupNorm,
    Resnet,
    TimeEmbedding,
    UNetConfig,
    Upsample,
    silu,
    sinusoid,
)

# What a kind of block changes resolution with; those with attention leave that to `downsample_type`, `upsample_type`.
RESAMPLING = {
    **{"DownBlock2D": "conv", "ResnetDownsampleBlock2D": "resnet"},
    **{"UpBlock2D": "conv", "ResnetUpsampleBlock2D": "resnet"},
}


class Block(nn.Module):
    """One resolution: resnets, each followed by attention if the block has it, then a change of resolution."""

    def __init__(self, c: UNetConfig, kind: str, pairs: list[tuple[int, int]], temb: int):
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(c, cin, cout, temb) for cin, cout in pairs)
        width = pairs[-1][1]
        layers = len(pairs) if kind.startswith("Attn") else 0
        self.attentions = nn.ModuleList(Attention(c, width, c.norm_num_groups) for _ in range(layers))

    def layer(self, i: int, x: Tensor, temb: Tensor) -> Tensor:
        x = self.resnets[i](x, temb)
        return self.attentions[i](x) if len(self.attentions) else x


class Down(Block):
    def __init__(self, c: UNetConfig, kind: str, pairs: list[tuple[int, int]], temb: int, last: bool):
        super().__init__(c, kind, pairs, temb)
        width = pairs[-1][1]
        self.downsamplers = nn.ModuleList()
        if not last:
            resnet = RESAMPLING.get(kind, c.downsample_type) == "resnet"
            change = (
                Resnet(c, width, width, temb, resample="down") if resnet else Downsample(width, c.downsample_padding)
            )
            self.downsamplers.append(change)

    def forward(self, x: Tensor, temb: Tensor, skips: list[Tensor]) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.layer(i, x, temb)
            skips.append(x)
        for downsample in self.downsamplers:
            x = downsample(x, temb)
            skips.append(x)
        return x


class Up(Block):
    def __init__(self, c: UNetConfig, kind: str, pairs: list[tuple[int, int]], temb: int, last: bool):
        super().__init__(c, kind, pairs, temb)
        width = pairs[-1][1]
        self.upsamplers = nn.ModuleList()
        if not last:
            resnet = RESAMPLING.get(kind, c.upsample_type) == "resnet"
            change = Resnet(c, width, width, temb, resample="up") if resnet else Upsample(width)
            self.upsamplers.append(change)

    def forward(self, x: Tensor, temb: Tensor, skips: list[Tensor]) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.layer(i, torch.cat([x, skips.pop()], dim=1), temb)
        for upsample in self.upsamplers:
            x = upsample(x, temb)
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

    With a table of class embeddings it is (x, index, labels): the labels (N,) int64 are rows of the table.
    H and W must be divisible by `patch`, and then by 2 once per resolution but the last.
    """

    def __init__(self, config: UNetConfig):
        super().__init__()
        c = self.config = config
        widths, layers = c.block_out_channels, c.layers_per_block
        temb, last = c.time_embedding_dim or 4 * widths[0], len(widths) - 1
        self.conv_in = nn.Conv2d(c.in_channels * c.patch**2, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], temb)

        self.down_blocks = nn.ModuleList()
        skips = [widths[0]]  # the widths that the up path will be handed, in the order they are made
        for level, (cin, cout) in enumerate(pairwise((widths[0], *widths))):
            pairs = [(cin, cout)] + [(cout, cout)] * (layers - 1)
            self.down_blocks.append(Down(c, c.down_block_types[level], pairs, temb, last=level == last))
            skips += [cout] * (layers + (level != last))

        self.mid_block = Mid(c, widths[-1], temb)

        self.up_blocks = nn.ModuleList()
        cin = widths[-1]
        for level, cout in enumerate(reversed(widths)):
            pairs = [((cin if i == 0 else cout) + skips.pop(), cout) for i in range(layers + 1)]
            self.up_blocks.append(Up(c, c.up_block_types[level], pairs, temb, last=level == last))
            cin = cout

        self.conv_norm_out = GroupNorm(c.norm_num_groups, widths[0], c.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], c.out_channels * c.patch**2, 3, padding=1)
        self.apply(_ddpm_init)
        # Drawn after all else, so that the other weights of a seed are those of the network without classes.
        self.class_embedding = nn.Embedding(c.num_class_embeds, temb) if c.num_class_embeds else None
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, index: Tensor, labels: Tensor | None = None) -> Tensor:
        x, temb = self.enter(x, index, labels)
        skips = [x]
        for block in self.down_blocks:
            x = block(x, temb, skips)
        x = self.mid_block(x, temb)
        for block in self.up_blocks:
            x = block(x, temb, skips)
        return self.leave(x)

    def enter(self, x: Tensor, index: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the blocks work on: features of the images, and of their times and classes, (N, width, H', W') and
        (N, temb)."""
        c = self.config
        x = F.pixel_unshuffle(x, c.patch) if c.patch > 1 else x  # (N, C·patch², H', W')
        x = x.contiguous(memory_format=torch.channels_last)
        x = 2 * x - 1 if c.center_input_sample else x
        embedding = sinusoid(
            index * c.time_scale, c.block_out_channels[0], c.flip_sin_to_cos, c.freq_shift
        )  # (N, width) float32
        temb = self.time_embedding(embedding.to(x.dtype))  # (N, temb)
        if self.class_embedding is not None:
            temb = temb + self.class_embedding(labels)
        return self.conv_in(x), F.silu(temb)  # each resnet wants it activated

    def leave(self, x: Tensor) -> Tensor:
        x = self.conv_out(silu(self.conv_norm_out(x)))
        return F.pixel_shuffle(x, self.config.patch) if self.config.patch > 1 else x


def _ddpm_init(module: nn.Module) -> None:
    """DDPM's initialisation: uniform with variance 1/fan_avg, zero biases, and zero for what ends a residual branch."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    ends = {Resnet: "conv2", Attention: "to_out", UNet: "conv_out"}.get(type(module))
    for end in getattr(module, ends).modules() if ends else ():
        if hasattr(end, "weight"):
            nn.init.zeros_(end.weight)
