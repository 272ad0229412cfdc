"""The networks: the DDPM U-Net and its blocks, lucidrains' U-Net, and faster forms of them for sampling."""

from ddim.networks.blocks import ExtendedConfig, UNetConfig
from ddim.networks.lucidrains_unet import LucidConfig, LucidUNet
from ddim.networks.unet import UNet

__all__ = ["ExtendedConfig", "LucidConfig", "LucidUNet", "UNet", "UNetConfig"]
