"""The U-Net of lucidrains' denoising-diffusion-pytorch, which the DDPM U-Net cannot express, written to its layout.

RMS norms, linear attention at all resolutions but those marked full, and a few learned keys and values beside the
image's own. Parameters are named as its checkpoints name them; only sampling is meant, so there is no dropout.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddim.networks.blocks import sinusoid


@dataclass(frozen=True)
class LucidConfig:
    """The shape of such a U-Net: a value a resolution in each tuple, the finest first."""

    sample_size: int | tuple[int, int] = 128
    in_channels: int = 3
    out_channels: int = 3
    dim: int = 64
    init_dim: int = 64
    block_out_channels: tuple[int, ...] = (64, 128, 256, 512)
    full_attention: tuple[bool, ...] = (False, False, False, True)
    heads: tuple[int, ...] = (4, 4, 4, 4)
    head_dims: tuple[int, ...] = (32, 32, 32, 32)
    memory: int = 4


def config_of(state: dict[str, Tensor]) -> dict:
    """The fields, all but sample_size, from the shapes of a state dict. A missing key is a KeyError."""
    levels = range(1 + max((int(m[1]) for key in state if (m := re.match(r"downs\.(\d+)\.", key))), default=0))
    full = [f"downs.{i}.2.to_out.weight" in state for i in levels]
    memory = [state[f"downs.{i}.2.mem_kv"].shape for i in levels]  # (2, heads, n, d) if full, else (2, heads, d, n)
    # Between resolutions the convolution comes after a rearrangement of pixels; at the last one it stands alone.
    last = len(levels) - 1
    return {
        "in_channels": state["init_conv.weight"].shape[1],
        "out_channels": state["final_conv.weight"].shape[0],
        "dim": state["time_mlp.1.weight"].shape[1],
        "init_dim": state["init_conv.weight"].shape[0],
        "block_out_channels": tuple(
            state[f"downs.{i}.3.weight" if i == last else f"downs.{i}.3.1.weight"].shape[0] for i in levels
        ),
        "full_attention": tuple(full),
        "heads": tuple(shape[1] for shape in memory),
        "head_dims": tuple(shape[3 if f else 2] for f, shape in zip(full, memory, strict=True)),
        "memory": memory[0][2 if full[0] else 3],
    }


class RMSNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * self.g * x.shape[1] ** 0.5


class Conv(nn.Module):
    """conv, norm, × scale + shift, silu."""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.proj = nn.Conv2d(cin, cout, 3, padding=1)
        self.norm = RMSNorm(cout)

    def forward(self, x: Tensor, scale: Tensor | float = 0.0, shift: Tensor | float = 0.0) -> Tensor:
        return F.silu(self.norm(self.proj(x)) * (scale + 1) + shift)


class Resnet(nn.Module):
    def __init__(self, cin: int, cout: int, temb: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(temb, 2 * cout))
        self.block1, self.block2 = Conv(cin, cout), Conv(cout, cout)
        self.res_conv = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        scale, shift = self.mlp(temb)[:, :, None, None].chunk(2, dim=1)
        return self.block2(self.block1(x, scale, shift)) + self.res_conv(x)


class Attention(nn.Module):
    """Attention over the H·W positions and `memory` learned ones, with a residual: full, or linear in their number."""

    def __init__(self, width: int, heads: int, dim: int, memory: int, full: bool):
        super().__init__()
        self.heads, self.full = heads, full
        self.norm = RMSNorm(width)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, *((memory, dim) if full else (dim, memory))))
        self.to_qkv = nn.Conv2d(width, 3 * heads * dim, 1, bias=False)
        out = nn.Conv2d(heads * dim, width, 1)
        self.to_out = out if full else nn.Sequential(out, RMSNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q, k, v = self.to_qkv(self.norm(x)).reshape(n, 3, self.heads, -1, h * w).unbind(1)  # (N, heads, d, H·W) each
        mem_k, mem_v = (m.transpose(1, 2) if self.full else m for m in self.mem_kv)  # (heads, d, memory) each
        k = torch.cat([mem_k.expand(n, -1, -1, -1), k], dim=3)  # (N, heads, d, memory + H·W)
        v = torch.cat([mem_v.expand(n, -1, -1, -1), v], dim=3)
        if self.full:
            q, k, v = (y.transpose(2, 3) for y in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v).transpose(2, 3)  # (N, heads, d, H·W)
        else:
            context = v @ k.softmax(dim=3).transpose(2, 3)  # (N, heads, d of v, d of k)
            y = context @ (q.softmax(dim=2) * q.shape[2] ** -0.5)  # (N, heads, d, H·W)
        return x + self.to_out(y.reshape(n, -1, h, w))


class LucidUNet(nn.Module):
    """(x, index) -> (N, out_channels, H, W), for x (N, in_channels, H, W) and the network's time index t−1 (N,)."""

    def __init__(self, config: LucidConfig):
        super().__init__()
        c = self.config = config
        temb, last = 4 * c.dim, len(c.block_out_channels) - 1
        pairs = list(pairwise((c.init_dim, *c.block_out_channels)))

        def attention(width: int, level: int, full: bool) -> Attention:
            return Attention(width, c.heads[level], c.head_dims[level], c.memory, full)

        self.init_conv = nn.Conv2d(c.in_channels, c.init_dim, 7, padding=3)
        self.time_mlp = nn.Sequential(nn.Identity(), nn.Linear(c.dim, temb), nn.GELU(), nn.Linear(temb, temb))
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, (cin, cout) in enumerate(pairs):
            shrink = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * cin, cout, 1))
            change = nn.Conv2d(cin, cout, 3, padding=1) if level == last else shrink
            attend = attention(cin, level, c.full_attention[level])
            self.downs.append(nn.ModuleList([Resnet(cin, cin, temb), Resnet(cin, cin, temb), attend, change]))
        width = c.block_out_channels[-1]
        self.mid_block1, self.mid_block2 = Resnet(width, width, temb), Resnet(width, width, temb)
        self.mid_attn = attention(width, last, full=True)
        for level, (cin, cout) in reversed(list(enumerate(pairs))):
            conv = nn.Conv2d(cout, cin, 3, padding=1)
            change = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv) if level else conv
            resnets = [Resnet(cout + cin, cout, temb) for _ in range(2)]
            self.ups.append(nn.ModuleList([*resnets, attention(cout, level, c.full_attention[level]), change]))
        self.final_res_block = Resnet(2 * c.init_dim, c.init_dim, temb)
        self.final_conv = nn.Conv2d(c.init_dim, c.out_channels, 1)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        temb = self.time_mlp(sinusoid(index, self.config.dim, flip=False, shift=1).to(x.dtype))  # (N, temb)
        x = first = self.init_conv(x)
        skips = []
        for resnet1, resnet2, attend, change in self.downs:
            skips.append(x := resnet1(x, temb))
            skips.append(x := attend(resnet2(x, temb)))
            x = change(x)
        x = self.mid_block2(self.mid_attn(self.mid_block1(x, temb)), temb)
        for resnet1, resnet2, attend, change in self.ups:
            x = resnet1(torch.cat([x, skips.pop()], dim=1), temb)
            x = attend(resnet2(torch.cat([x, skips.pop()], dim=1), temb))
            x = change(x)
        return self.final_conv(self.final_res_block(torch.cat([x, first], dim=1), temb))
