"""How far two sets of images are apart, in the eyes of the model that made them: its U-Net's own encoder."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddim.diffusion.model import Model
from ddim.networks.unet import UNet

LEVELS = (0.01, 0.1)  # of T: the network is given these times, though no noise is added; indices 9 and 99 of 1000


@dataclass(frozen=True)
class EncoderDistance:
    """(a, b, labels) -> (N,), the distances of images (N, C, H, W) from others, as their maps in the encoder differ:
    the input convolution, every down block and the middle block, at two low levels. Each map has unit length over its
    channels at each position, as in LPIPS (Zhang et al. 2018, arXiv 1801.03924); squared differences are summed over
    channels, averaged over positions and summed over maps. Gradients flow to `a`.
    """

    network: UNet
    T: int
    name: str = "features"

    def __call__(self, a: Tensor, b: Tensor, labels: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            wanted = list(self.maps(b, labels))
        return sum(((x - y) ** 2).sum(1).mean((1, 2)) for x, y in zip(self.maps(a, labels), wanted, strict=True))

    def maps(self, images: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
        """The maps (N, width, h, w), coarser and coarser, of one level after the other."""
        for share in LEVELS:
            index = torch.full((len(images),), max(round(share * self.T) - 1, 0), device=images.device)
            x, temb = self.network.enter(images, index, labels)
            yield unit(x)
            for block in self.network.down_blocks:
                x = block(x, temb, [])
                yield unit(x)
            yield unit(self.network.mid_block(x, temb))


@dataclass(frozen=True)
class PixelDistance:
    """The same for a network without such an encoder: the mean squared difference of pixels on [0, 1]."""

    name: str = "pixels"

    def __call__(self, a: Tensor, b: Tensor, labels: Tensor | None = None) -> Tensor:
        return ((a - b) / 2).square().mean((1, 2, 3))


def unit(x: Tensor) -> Tensor:
    """Of length 1 over the channels, at each position."""
    return x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt()


def distance_for(model: Model) -> EncoderDistance | PixelDistance:
    """The distance that there is for a model."""
    if isinstance(model.network, UNet):
        return EncoderDistance(model.network, model.T)
    return PixelDistance()
