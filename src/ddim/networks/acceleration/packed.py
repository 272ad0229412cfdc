"""Convolutions on a CPU that keep their weights in the order that they are computed with."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddim.networks.blocks import Upsample, doubled


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
    call: the same numbers, sooner, above all for few images on small maps. Without gradients.
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
    uses += [f"_reorder_convolution{kind}_weight" for kind in ("", "_transpose")] + ["_is_mkldnn_bf16_supported"]
    if not all(hasattr(torch.ops.mkldnn, name) for name in uses):
        return network
    dtypes = [torch.float32]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():  # a CPU without AVX-512 cannot pack bf16
        dtypes.append(torch.bfloat16)
    for module in list(network.modules()):
        for name, child in module.named_children():
            pack = {nn.Conv2d: PackedConv, Folded: PackedUpsample}.get(type(child))
            if pack and child.weight.numel() >= least and child.weight.dtype in dtypes:
                setattr(module, name, pack(child))
    return network
