"""Small models with random weights."""

from dataclasses import replace

import torch

from ddim.diffusion import schedule
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
