"""8-bit convolutions, for CPUs that multiply bytes (VNNI): the weights and what enters a convolution in 256 steps.

The range of what enters is measured once, on a short walk from fixed noise, so that it depends on the model alone: were
it taken from each batch, a image would depend on its neighbours. The first and the last convolution, which see and
make images, keep their precision, and so does every sum along the way.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ddim.diffusion.guidance import Labelled
from ddim.diffusion.model import Denoiser, Model
from ddim.diffusion.noise import normal
from ddim.diffusion.schedule import grid
from ddim.diffusion.walk import last, walk
from ddim.networks.acceleration.packed import folded

IMAGES, STEPS = 8, 20  # of the walk that the ranges are measured on


class Range:
    """A hook that remembers the least and the largest value that has entered a module."""

    def __init__(self):
        self.low = self.high = 0.0

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        low, high = args[0].aminmax()
        self.low, self.high = min(self.low, low.item()), max(self.high, high.item())


class Int8Conv(nn.Module):
    """A convolution of bytes, x (N, C, H, W) bf16 -> the same: x in 256 even steps over a range that holds 0, and each
    output channel's weights in 255 steps around 0. Sums are exact, in 32-bit integers.
    """

    def __init__(self, conv: nn.Conv2d, low: float, high: float):
        super().__init__()
        self.padding = conv.padding
        self.bias = None if conv.bias is None else conv.bias.detach().float()
        self.step = max(high - low, 1e-12) / 255
        self.zero = round(-low / self.step)  # the byte that stands for 0
        weight = conv.weight.detach().float()
        self.steps = weight.abs().amax((1, 2, 3)).clamp_min(1e-12) / 127  # (C_out,)
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        self.how = [list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups]
        bytes_ = (weight / self.steps[:, None, None, None]).round().to(torch.int8)
        self.weight = torch.ops.onednn.qconv_prepack(bytes_, self.steps, self.step, self.zero, *self.how)

    def forward(self, x: Tensor) -> Tensor:
        # Rounded by cutting off the half that is added; a value outside the range is the nearest in it.
        q = x.to(torch.float32, copy=True).mul_(1 / self.step).add_(self.zero + 0.5).clamp_(0, 255).to(torch.uint8)
        what = (q, self.step, self.zero, self.weight, self.steps, self.zeros, self.bias)
        return torch.ops.onednn.qconv2d_pointwise(*what, *self.how, 1.0, 0, x.dtype, "none", [], "")


@torch.no_grad()
def quantised(model: Model) -> Model:
    """The model, the inner convolutions of its network replaced in place by 8-bit ones, its upsampling folded."""
    folded(model.network)
    convs = {
        name: module
        for name, module in model.network.named_modules()
        if type(module) is nn.Conv2d and module.in_channels > 16 and name not in ("conv_in", "conv_out")
    }
    with ranges(convs) as seen:
        x = normal(0, range(IMAGES), model.shape).to(model.device)
        last(walk(with_classes(model), x, grid(model.abar, min(STEPS, model.T))))
    for name, conv in convs.items():
        parent = model.network.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], Int8Conv(conv, seen[name].low, seen[name].high))
    return model


def with_classes(model: Model) -> Denoiser:
    """The model as the ranges are measured: for a few of its classes, and for none where it knows that."""
    if not model.classes:
        return model
    labels = torch.arange(IMAGES) % len(model.classes)
    if model.null_label is not None:
        labels[-2:] = model.null_label
    return Labelled(model, labels.to(model.device))


@contextmanager
def ranges(modules: dict[str, nn.Module]) -> Iterator[dict[str, Range]]:
    """The ranges of what enters each module meanwhile."""
    seen = {name: Range() for name in modules}
    hooks = [module.register_forward_pre_hook(seen[name]) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
