"""A new model from the settings of a run."""

import torch

from ddim.checkpoints.diffusers_config import narrowest
from ddim.diffusion import schedule
from ddim.diffusion.facts import Facts
from ddim.diffusion.model import Model
from ddim.errors import choose
from ddim.networks.blocks import UNetConfig
from ddim.networks.unet import UNet
from ddim.training.settings import Settings


def unet_config(settings: Settings, classes: int = 0) -> UNetConfig:
    """The U-Net that settings ask for, for so many classes. Raises InputError where its numbers do not fit
    together."""
    n, size, channels = settings.network, settings.data.size, settings.data.channels
    settings.check_network()
    attends = [size // n.patch >> level in n.attention for level in range(len(n.mult))]
    return narrowest(
        {
            "sample_size": size,
            "in_channels": channels,
            "out_channels": channels * (1 if settings.optimiser.loss == "simple" else 2),
            "block_out_channels": tuple(n.ch * m for m in n.mult),
            "down_block_types": tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            "up_block_types": tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
            "layers_per_block": n.layers,
            "norm_num_groups": n.groups,
            "dropout": n.dropout,
            "patch": n.patch,
            # One more for no class, where the network is trained with it.
            "num_class_embeds": classes + (settings.data.label_drop > 0) if classes else None,
        }
    )


def build(settings: Settings, classes: tuple[str, ...] | None = None) -> Model:
    """A new model, its weights decided by the seed of the settings. classes: the names of those that it takes."""
    noise, data = settings.noise, settings.data
    ends = {} if noise.schedule == "cosine" else {"beta_1": noise.beta_1, "beta_T": noise.beta_T}
    abar = choose("schedule", noise.schedule, schedule.SCHEDULES)(noise.T, **ends)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.optimiser.seed)
        network = UNet(unet_config(settings, len(classes or ())))
    shape = (data.channels, data.size, data.size)
    return Model(network, abar, shape, settings.network.predict, Facts(classes=classes))
