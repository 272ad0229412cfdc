"""Adapters around a network that make its calls cheaper. Each is a network again: nothing else knows of it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddim.networks.blocks import Upsample, doubled
from ddim.networks.unet import UNet


class Padded(nn.Module):
    """A network that is only ever called with batches of one size: a smaller one is padded, and its rows returned.

    So a ragged last batch is no new shape to compile for, or to capture in a CUDA graph. The size is the first one
    seen; a larger batch is called as it is, and is the size from then on.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.size = network, 0
        self.config = getattr(network, "config", None)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        n = len(x)
        self.size = max(self.size, n)
        x, index = F.pad(x, (0, 0) * 3 + (0, self.size - n)), F.pad(index, (0, self.size - n))
        # A captured graph writes every result to the same place: what is returned must be the caller's own.
        return self.network(x, index)[:n].clone()


def compiled(network: nn.Module) -> Padded:
    """The network compiled for one batch size, on a GPU with its kernels captured as a CUDA graph."""
    cuda = next(network.parameters()).device.type == "cuda"
    return Padded(torch.compile(network, mode="reduce-overhead" if cuda else "default", dynamic=False))


class Folded(nn.Module):
    """An `Upsample` on a CPU that keeps the kernel it computes with, instead of adding it up at every call."""

    def __init__(self, upsample: Upsample):
        super().__init__()
        self.bias = upsample.conv.bias
        self.weight = nn.Parameter(doubled(upsample.conv.weight.detach()), requires_grad=False)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1)


def folded(network: nn.Module) -> nn.Module:
    """The network, its upsampling replaced in place by kernels made once: before it is rounded, so that they are sums
    of its weights and not of rounded ones. What is folded cannot be saved or trained any more.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is Upsample:
                setattr(module, name, Folded(child))
    return network


class PackedConv(nn.Module):
    """A convolution on a CPU that keeps its weights as oneDNN computes with them, instead of rearranging them at every
    call: the same numbers, sooner, above all for few pictures on small maps. Without gradients.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.bias, self.padding = conv.bias, conv.padding
        self.how = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *self.how, [])

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *self.how, "none", [], "")


class PackedUpsample(nn.Module):
    """The same for a folded upsampling."""

    HOW = ([1, 1], [0, 0], [2, 2], [1, 1], 1)  # padding, output padding, stride, dilation, groups

    def __init__(self, upsample: Folded):
        super().__init__()
        self.bias, weight = upsample.bias, upsample.weight.detach()
        self.weight = torch.ops.mkldnn._reorder_convolution_transpose_weight(weight, *self.HOW, [])

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        how = (*self.HOW, "none", [], "")
        return torch.ops.mkldnn._convolution_transpose_pointwise(x, self.weight, self.bias, *how)


def packed(network: nn.Module, least: int = 2**16) -> nn.Module:
    """The network, its large convolutions replaced in place by packed ones; as it is where torch has none.

    Those with fewer than `least` weights are left alone: packed, they are slower.
    For the last moment before sampling: what is packed cannot be saved, moved or trained any more. It is folded too.
    """
    folded(network)
    uses = [f"_convolution{kind}_pointwise" for kind in ("", "_transpose")]
    uses += [f"_reorder_convolution{kind}_weight" for kind in ("", "_transpose")]
    if not all(hasattr(torch.ops.mkldnn, name) for name in uses):
        return network
    for module in list(network.modules()):
        for name, child in module.named_children():
            pack = {nn.Conv2d: PackedConv, Folded: PackedUpsample}.get(type(child))
            if pack and child.weight.numel() >= least and child.weight.dtype in (torch.float32, torch.bfloat16):
                setattr(module, name, pack(child))
    return network


class DeepCache(nn.Module):
    """A U-Net that computes its inner resolutions anew every `every` calls only, and reuses them in between.

    Neighbouring noise levels have nearly the same coarse features (Ma et al. 2023, DeepCache, §3.3): what enters the
    last, finest up block is kept, and only the finest down and up blocks are run on it. A call whose time or
    batch does not follow the one before, as at the start of a walk, computes everything.
    """

    def __init__(self, network: UNet, every: int):
        super().__init__()
        self.network, self.config, self.every = network, network.config, every
        self.calls, self.last, self.kept = 0, None, None

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        net, now = self.network, (len(x), int(index[0]))
        follows = self.last is not None and now[0] == self.last[0] and now[1] < self.last[1]
        self.calls, self.last = self.calls + 1 if follows else 0, now
        x, temb = net.enter(x, index)
        skips = [x]
        finest, *inner = net.down_blocks
        x = finest(x, temb, skips)
        own = skips[: len(finest.resnets) + 1]  # those that the finest up block takes
        if self.calls % self.every == 0:
            for block in inner:
                x = block(x, temb, skips)
            x = net.mid_block(x, temb)
            for block in net.up_blocks[:-1]:
                x = block(x, temb, skips)
            self.kept = x
        return net.leave(net.up_blocks[-1](self.kept, temb, own))
