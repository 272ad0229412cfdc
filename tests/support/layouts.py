"""Small networks with the exact key layouts of other code, written for the tests with mathematics of their own:
explicit softmaxes instead of fused attention, a loop over the heads, and no part of the library."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter away from its initial value, so that none can be left out of a comparison unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in network.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        scale = 0.2 if p.dim() == 1 else 1 / p[0].numel() ** 0.5
        p.data = noise * scale + (1.0 if p.dim() == 1 and name.endswith("weight") else 0.0)
    return network.eval().requires_grad_(False)


def conv(cin, cout, k=3, **options):
    return nn.Conv2d(cin, cout, k, padding=k // 2, **options)


def angles(t, width, over):
    k = torch.arange(width // 2, dtype=torch.float32)
    return t.float()[:, None] * torch.exp(-math.log(10000.0) * k / over)[None]


def attend(q, k, v):
    """q, k, v: (N, C, positions) -> (N, C, positions)."""
    return torch.einsum("nij,ncj->nci", (torch.einsum("nci,ncj->nij", q, k) / q.shape[1] ** 0.5).softmax(2), v)


class Bag(nn.Module):
    """A module that only holds others under names."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


# The official DDIM code, and the DDPM weights converted from TensorFlow


class OfficialBlock(nn.Module):
    def __init__(self, cin, cout, temb):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, cin, 1e-6), conv(cin, cout)
        self.temb_proj = nn.Linear(temb, cout)
        self.norm2, self.conv2 = nn.GroupNorm(32, cout, 1e-6), conv(cout, cout)
        if cin != cout:
            self.nin_shortcut = conv(cin, cout, 1)

    def forward(self, x, temb):
        h = self.conv1(F.silu(self.norm1(x))) + self.temb_proj(F.silu(temb))[..., None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class OfficialAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = nn.GroupNorm(32, c, 1e-6)
        self.q, self.k, self.v, self.proj_out = (conv(c, c, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        h = attend(*(f(h).flatten(2) for f in (self.q, self.k, self.v)))
        return x + self.proj_out(h.view_as(x))


class Official(nn.Module):
    def __init__(self, ch=32, mult=(1, 2, 2), layers=2, attention=(False, True, False), channels=3):
        super().__init__()
        self.ch, self.layers, self.attention = ch, layers, attention
        widths, temb = [ch * m for m in mult], 4 * ch
        self.temb = Bag(dense=nn.ModuleList([nn.Linear(ch, temb), nn.Linear(temb, temb)]))
        self.conv_in = conv(channels, ch)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, c = [ch], ch
        for i, width in enumerate(widths):
            block, attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(layers):
                block.append(OfficialBlock(c, width, temb))
                c = width
                skips.append(c)
                if attention[i]:
                    attn.append(OfficialAttention(c))
            level = Bag(block=block, attn=attn)
            if i < len(widths) - 1:
                level.downsample = Bag(conv=nn.Conv2d(c, c, 3, stride=2))
                skips.append(c)
            self.down.append(level)
        self.mid = Bag(
            block_1=OfficialBlock(c, c, temb), attn_1=OfficialAttention(c), block_2=OfficialBlock(c, c, temb)
        )
        for i, width in reversed(list(enumerate(widths))):
            block, attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(layers + 1):
                block.append(OfficialBlock(c + skips.pop(), width, temb))
                c = width
                if attention[i]:
                    attn.append(OfficialAttention(c))
            level = Bag(block=block, attn=attn)
            if i:
                level.upsample = Bag(conv=conv(c, c))
            self.up.insert(0, level)
        self.norm_out, self.conv_out = nn.GroupNorm(32, c, 1e-6), conv(c, channels)

    def forward(self, x, t):
        a = angles(t, self.ch, self.ch // 2 - 1)
        first, second = self.temb.dense
        temb = second(F.silu(first(torch.cat([a.sin(), a.cos()], 1))))
        x = self.conv_in(x)
        skips = [x]
        for i, level in enumerate(self.down):
            for j, block in enumerate(level.block):
                x = block(x, temb)
                x = level.attn[j](x) if self.attention[i] else x
                skips.append(x)
            if hasattr(level, "downsample"):
                x = level.downsample.conv(F.pad(x, (0, 1, 0, 1)))
                skips.append(x)
        x = self.mid.block_2(self.mid.attn_1(self.mid.block_1(x, temb)), temb)
        for i, level in reversed(list(enumerate(self.up))):
            for j, block in enumerate(level.block):
                x = block(torch.cat([x, skips.pop()], 1), temb)
                x = level.attn[j](x) if self.attention[i] else x
            if hasattr(level, "upsample"):
                x = level.upsample.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))
        return self.conv_out(F.silu(self.norm_out(x)))


# improved-diffusion and guided-diffusion


class ImprovedBlock(nn.Module):
    def __init__(self, cin, cout, temb, modulate, resample=None):
        super().__init__()
        self.modulate, self.resample = modulate, resample
        self.in_layers = nn.Sequential(nn.GroupNorm(32, cin), nn.SiLU(), conv(cin, cout))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(temb, cout * (2 if modulate else 1)))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, cout), nn.SiLU(), nn.Dropout(), conv(cout, cout))
        self.skip_connection = conv(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x, temb):
        h = self.in_layers[1](self.in_layers[0](x))
        if self.resample:
            h, x = self.resample(h), self.resample(x)
        h, e = self.in_layers[2](h), self.emb_layers(temb)[..., None, None]
        norm, *rest = self.out_layers
        if self.modulate:
            c = h.shape[1]
            h = norm(h) * (1 + e[:, :c]) + e[:, c:]
        else:
            h = norm(h + e)
        for layer in rest:
            h = layer(h)
        return self.skip_connection(x) + h


class ImprovedAttention(nn.Module):
    def __init__(self, c, heads, by_kind):
        super().__init__()
        self.heads, self.by_kind = heads, by_kind
        self.norm, self.qkv, self.proj_out = nn.GroupNorm(32, c), nn.Conv1d(c, 3 * c, 1), nn.Conv1d(c, c, 1)

    def forward(self, x):
        c = x.shape[1]
        joint = self.qkv(self.norm(x).flatten(2))
        outs = []
        for head in range(self.heads):
            d = c // self.heads
            starts = [kind * c + head * d if self.by_kind else (3 * head + kind) * d for kind in range(3)]
            outs.append(attend(*(joint[:, start : start + d] for start in starts)))
        return x + self.proj_out(torch.cat(outs, 1)).view_as(x)


class Improved(nn.Module):
    def __init__(
        self,
        ch=32,
        mult=(1, 2, 2),
        layers=2,
        attention=(False, True, True),
        heads=4,
        modulate=True,
        out=3,
        updown=False,
        by_kind=False,
        time_scale=1.0,
        classes=0,
    ):
        super().__init__()
        self.ch, self.time_scale = ch, time_scale
        if classes:
            self.label_emb = nn.Embedding(classes, 4 * ch)
        temb = 4 * ch
        self.time_embed = nn.Sequential(nn.Linear(ch, temb), nn.SiLU(), nn.Linear(temb, temb))

        def block(cin, cout, resample=None):
            return ImprovedBlock(cin, cout, temb, modulate, resample)

        self.input_blocks = nn.ModuleList([nn.ModuleList([conv(3, ch)])])
        skips, c = [ch], ch
        for i, m in enumerate(mult):
            for _ in range(layers):
                parts = [block(c, ch * m)]
                c = ch * m
                parts += [ImprovedAttention(c, heads, by_kind)] if attention[i] else []
                self.input_blocks.append(nn.ModuleList(parts))
                skips.append(c)
            if i < len(mult) - 1:
                down = block(c, c, nn.AvgPool2d(2)) if updown else Bag(op=conv(c, c, stride=2))
                self.input_blocks.append(nn.ModuleList([down]))
                skips.append(c)
        self.middle_block = nn.ModuleList([block(c, c), ImprovedAttention(c, heads, by_kind), block(c, c)])
        self.output_blocks = nn.ModuleList()
        for i, m in reversed(list(enumerate(mult))):
            for j in range(layers + 1):
                parts = [block(c + skips.pop(), ch * m)]
                c = ch * m
                parts += [ImprovedAttention(c, heads, by_kind)] if attention[i] else []
                if i and j == layers:
                    parts += [block(c, c, nn.Upsample(scale_factor=2)) if updown else Bag(conv=conv(c, c))]
                self.output_blocks.append(nn.ModuleList(parts))
        self.out = nn.Sequential(nn.GroupNorm(32, c), nn.SiLU(), conv(c, out))

    def run(self, parts, x, temb):
        for part in parts:
            if isinstance(part, ImprovedBlock):
                x = part(x, temb)
            elif isinstance(part, Bag):
                x = part.op(x) if hasattr(part, "op") else part.conv(F.interpolate(x, scale_factor=2))
            else:
                x = part(x)
        return x

    def forward(self, x, t, y=None):
        a = angles(t * self.time_scale, self.ch, self.ch // 2)
        temb = self.time_embed(torch.cat([a.cos(), a.sin()], 1))
        if y is not None:
            temb = temb + self.label_emb.weight[y]
        skips = []
        for parts in self.input_blocks:
            x = self.run(parts, x, temb)
            skips.append(x)
        x = self.run(self.middle_block, x, temb)
        for parts in self.output_blocks:
            x = self.run(parts, torch.cat([x, skips.pop()], 1), temb)
        return self.out(x)


# lucidrains' denoising-diffusion-pytorch


class LucidNorm(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, c, 1, 1))

    def forward(self, x):
        return x / x.square().mean(1, keepdim=True).sqrt() * self.g


class LucidBlock(nn.Module):
    def __init__(self, cin, cout, temb):
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(temb, 2 * cout))
        self.block1 = Bag(proj=conv(cin, cout), norm=LucidNorm(cout))
        self.block2 = Bag(proj=conv(cout, cout), norm=LucidNorm(cout))
        self.res_conv = conv(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x, temb):
        e = self.mlp(temb)[..., None, None]
        h = self.block1.norm(self.block1.proj(x))
        h = F.silu(h * (1 + e[:, : h.shape[1]]) + e[:, h.shape[1] :])
        return F.silu(self.block2.norm(self.block2.proj(h))) + self.res_conv(x)


class LucidAttention(nn.Module):
    def __init__(self, c, heads, d, full, memory=4):
        super().__init__()
        self.heads, self.d, self.full = heads, d, full
        self.norm = LucidNorm(c)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, *((memory, d) if full else (d, memory))))
        self.to_qkv = conv(c, 3 * heads * d, 1, bias=False)
        self.to_out = conv(heads * d, c, 1) if full else nn.Sequential(conv(heads * d, c, 1), LucidNorm(c))

    def forward(self, x):
        q, k, v = self.to_qkv(self.norm(x)).flatten(2).chunk(3, 1)
        outs = []
        for i in range(self.heads):
            rows = slice(i * self.d, (i + 1) * self.d)
            own_k, own_v = (m[i].T if self.full else m[i] for m in self.mem_kv)  # (d, memory)
            keys = torch.cat([own_k.expand(len(x), -1, -1), k[:, rows]], 2)
            values = torch.cat([own_v.expand(len(x), -1, -1), v[:, rows]], 2)
            if self.full:
                outs.append(attend(q[:, rows], keys, values))
            else:
                context = torch.einsum("ndp,nep->nde", keys.softmax(2), values)
                outs.append(torch.einsum("nde,ndp->nep", context, q[:, rows].softmax(1) / self.d**0.5))
        return x + self.to_out(torch.cat(outs, 1).view(len(x), -1, *x.shape[2:]))


class Lucid(nn.Module):
    def __init__(self, dim=16, mult=(1, 2), heads=2, d=8, channels=3):
        super().__init__()
        self.dim, temb, widths = dim, 4 * dim, [dim * m for m in mult]
        pairs = list(zip([dim, *widths], widths, strict=False))
        last = len(pairs) - 1
        self.init_conv = conv(channels, dim, 7)
        self.time_mlp = nn.Sequential(nn.Identity(), nn.Linear(dim, temb), nn.GELU(), nn.Linear(temb, temb))
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for i, (cin, cout) in enumerate(pairs):
            change = conv(cin, cout) if i == last else nn.Sequential(nn.Identity(), conv(4 * cin, cout, 1))
            blocks = [LucidBlock(cin, cin, temb), LucidBlock(cin, cin, temb)]
            self.downs.append(nn.ModuleList([*blocks, LucidAttention(cin, heads, d, i == last), change]))
        c = widths[-1]
        self.mid_block1, self.mid_attn = LucidBlock(c, c, temb), LucidAttention(c, heads, d, True)
        self.mid_block2 = LucidBlock(c, c, temb)
        for i, (cin, cout) in reversed(list(enumerate(pairs))):
            change = nn.Sequential(nn.Identity(), conv(cout, cin)) if i else conv(cout, cin)
            blocks = [LucidBlock(cout + cin, cout, temb), LucidBlock(cout + cin, cout, temb)]
            self.ups.append(nn.ModuleList([*blocks, LucidAttention(cout, heads, d, i == last), change]))
        self.final_res_block, self.final_conv = LucidBlock(2 * dim, dim, temb), conv(dim, channels, 1)

    def forward(self, x, t):
        a = angles(t, self.dim, self.dim // 2 - 1)
        temb = self.time_mlp(torch.cat([a.sin(), a.cos()], 1))
        x = first = self.init_conv(x)
        skips = []
        for block1, block2, attention, change in self.downs:
            x = block1(x, temb)
            skips.append(x)
            x = attention(block2(x, temb))
            skips.append(x)
            if isinstance(change, nn.Sequential):  # (c, row, column) of each 2×2 patch become channels
                n, c, h, w = x.shape
                x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, 4 * c, h // 2, w // 2)
            x = change(x)
        x = self.mid_block2(self.mid_attn(self.mid_block1(x, temb)), temb)
        for block1, block2, attention, change in self.ups:
            x = block1(torch.cat([x, skips.pop()], 1), temb)
            x = attention(block2(torch.cat([x, skips.pop()], 1), temb))
            if isinstance(change, nn.Sequential):
                x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            x = change(x)
        return self.final_conv(self.final_res_block(torch.cat([x, first], 1), temb))


def lucid_checkpoint(network: Lucid, averaged: Lucid, betas: torch.Tensor, objective: str) -> dict:
    """What its trainer saves: the diffusion's buffers beside the network, and the average with its own bookkeeping."""
    product = (1 - betas).cumprod(0)
    snr = product / (1 - product)
    loss_weight = {"eps": torch.ones_like(snr), "x0": snr, "v": product}[objective]
    buffers = {"betas": betas, "alphas_cumprod": product, "loss_weight": loss_weight}

    def state(net):
        return {k: v.float() for k, v in buffers.items()} | {f"model.{k}": v for k, v in net.state_dict().items()}

    ema = {"initted": torch.tensor(True), "step": torch.tensor(7)}
    ema |= {f"online_model.{k}": v for k, v in state(network).items()}
    ema |= {f"ema_model.{k}": v for k, v in state(averaged).items()}
    return {"step": 7, "model": state(network), "opt": {"state": {}}, "ema": ema, "scaler": None, "version": "2.3.1"}
