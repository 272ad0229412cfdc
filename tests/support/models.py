"""Small models with random weights, and one whose classes are known."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from ddim.diffusion import schedule
from ddim.diffusion.facts import Facts
from ddim.diffusion.model import Model
from ddim.networks.unet import UNet, UNetConfig


def tiny_network(seed: int = 0, channels: int = 1, size: int = 8, **changes) -> UNet:
    """A small U-Net with attention, every weight random: DDPM's initialisation would predict 0."""
    config = {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    network = UNet(UNetConfig(**config | changes)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network


def tiny_model(seed: int = 0, channels: int = 1, size: int = 8, predicts: str = "eps", **changes) -> Model:
    network = tiny_network(seed, channels, size, **changes)
    return Model(network, schedule.linear(), (channels, size, size), predicts)


def labelled_model(classes: tuple[str, ...] = ("cat", "dog", "ship"), null: bool = True, **changes) -> Model:
    """A tiny model that knows classes, with a label of no class or without; its embeddings differ by much."""
    model = tiny_model(num_class_embeds=len(classes) + null, **changes)
    model.network.class_embedding.weight.mul_(20)
    return replace(model, facts=replace(model.facts, classes=classes))


@dataclass
class Config:
    num_class_embeds: int


class Known(nn.Module):
    """The network whose ε is exact: of each class its own oracle, and of no class the last one."""

    def __init__(self, *oracles):
        super().__init__()
        self.oracles, self.config = oracles, Config(len(oracles))
        self.register_parameter("dtype", nn.Parameter(torch.zeros(1, dtype=torch.float64)))

    def forward(self, x, index, labels):
        out = torch.empty_like(x)
        for label in labels.unique().tolist():
            rows = labels == label
            t = index[rows][0].item() + 1
            out[rows] = self.oracles[label](x[rows], t).eps
        return out


def known_classes(*oracles) -> Model:
    """A model of two by two pixels whose classes a, b, … and no class are oracles."""
    names = tuple("abc"[: len(oracles) - 1])
    return Model(Known(*oracles), oracles[0].abar, (1, 2, 2), facts=Facts(classes=names))
