"""diffusers' configuration files in our terms, both ways: the shape of a U-Net, and the noise schedule."""

from dataclasses import fields

import torch
from torch import Tensor

from ddim.diffusion import schedule
from ddim.diffusion.clipping import Clip
from ddim.errors import InputError
from ddim.networks.blocks import ExtendedConfig, UNetConfig

# What diffusers' UNet2DModel takes where a config.json omits a field.
OMITTED = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (224, 448, 672, 896),
    "down_block_types": ("DownBlock2D", *("AttnDownBlock2D",) * 3),
    "up_block_types": (*("AttnUpBlock2D",) * 3, "UpBlock2D"),
    "norm_eps": 1e-5,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "downsample_padding": 1,
    "attention_head_dim": 8,
}
# Fields of UNet2DModel for which only some values make the network that we have.
ONLY = {
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "act_fn": ("silu", "swish"),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
}
IGNORED = {"num_train_timesteps"}  # only a learned time embedding reads it
OURS = {"num_heads": None, "time_scale": 1.0, "patch": 1}  # the fields of ExtendedConfig, and the values that need none
BLOCKS = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
}
PREDICTION_TYPES = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
SCHEDULERS = ("DDIMScheduler", "DDPMScheduler")
DIGITS = 14  # decimals of a stored β: float64 gives them back exactly through the product, so that a copy is bitwise


def unet_of(config: dict, image_size: int | None = None) -> UNetConfig:
    """The U-Net of a diffusers `config.json`, every field honoured; InputError naming one that cannot be.

    `image_size` stands in where the file has no sample_size.
    """
    ours = {field.name for field in fields(ExtendedConfig)}
    for name, value in config.items():
        if name in ONLY and value not in ONLY[name]:
            raise InputError(f"{name} {value!r} is not supported: {_words(ONLY[name])}")
        known = name in ours or name in ONLY or name in IGNORED or name.startswith("_")
        if not known and value is not None and value is not False:
            raise InputError(f"{name} {value!r} is not a field that is known here")
    given = plain_fields(ExtendedConfig, config)
    given["sample_size"] = given.get("sample_size") or image_size
    if given["sample_size"] is None:
        raise InputError("has no sample_size; give --image-size")
    try:
        unet = narrowest({**OMITTED, **given})
        check(unet)
    except TypeError as error:
        raise InputError(f"a field has a value of the wrong kind ({error})") from None
    return unet


def plain_fields(kind: type, config: dict) -> dict:
    """Those of a JSON object's values that are fields of a dataclass, lists as tuples."""
    ours = {field.name for field in fields(kind)}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in config.items() if name in ours}


def check(c: UNetConfig) -> None:
    """Raise InputError where the fields do not fit together."""
    levels = len(c.block_out_channels)
    for name, known in BLOCKS.items():
        kinds = getattr(c, name)
        if unknown := [kind for kind in kinds if kind not in known]:
            raise InputError(f"{name} {unknown[0]!r} is not supported: {_words(known)}")
        if len(kinds) != levels:
            raise InputError(f"{len(kinds)} {name} for {levels} block_out_channels")
    for width in c.block_out_channels:
        if width % c.norm_num_groups:
            raise InputError(f"width {width} is not divisible by norm_num_groups {c.norm_num_groups}")
    for width in attention_widths(c):
        if width % (c.num_heads or c.attention_head_dim or width):
            raise InputError(f"width {width} does not divide into its attention heads")


def attention_widths(c: UNetConfig) -> set[int]:
    """The widths at which a U-Net has self-attention."""
    levels = zip(c.block_out_channels, c.down_block_types, reversed(c.up_block_types), strict=True)
    widths = {width for width, *kinds in levels if any(kind.startswith("Attn") for kind in kinds)}
    return widths | ({c.block_out_channels[-1]} if c.add_attention else set())


def beyond_diffusers(c: UNetConfig) -> list[str]:
    """The fields of a U-Net that diffusers has no word for."""
    return [name for name, value in OURS.items() if getattr(c, name) != value]


def narrowest(fields: dict) -> UNetConfig:
    """A U-Net's configuration: diffusers' own fields where those say it all."""
    rest = {name: value for name, value in fields.items() if name not in OURS}
    return ExtendedConfig(**fields) if any(fields.get(k, v) != v for k, v in OURS.items()) else UNetConfig(**rest)


def with_heads(c: UNetConfig, heads: int) -> dict:
    """The fields that give every attention `heads` heads: a head width where all are as wide, else `num_heads`."""
    widths = attention_widths(c)
    return {"attention_head_dim": widths.pop() // heads} if len(widths) == 1 else {"num_heads": heads}


def abar_of(config: dict) -> Tensor:
    """abar (T+1,) from a diffusers scheduler config. Raises InputError on a schedule that we do not know."""
    T, name = config.get("num_train_timesteps", 1000), config.get("beta_schedule", "linear")
    ends = {"beta_1": config.get("beta_start", 1e-4), "beta_T": config.get("beta_end", 0.02)}
    if (betas := config.get("trained_betas")) is not None:
        abar = from_rounded(torch.tensor(betas, dtype=torch.float64))
    elif name == "linear":
        abar = schedule.linear(T, **ends)
    elif name == "scaled_linear":
        abar = schedule.scaled_linear(T, **ends)
    elif name == "squaredcos_cap_v2":
        abar = schedule.cosine(T)
    else:
        raise InputError(f"beta_schedule {name!r} is not supported: linear, scaled_linear or squaredcos_cap_v2")
    return zero_snr(abar) if config.get("rescale_betas_zero_snr") else abar


def from_rounded(betas: Tensor) -> Tensor:
    """abar (T+1,) from β (T,) as `beta_config` stores them."""
    return schedule.from_betas(torch.tensor([round(beta, DIGITS) for beta in betas.tolist()], dtype=torch.float64))


def zero_snr(abar: Tensor) -> Tensor:
    """√ᾱ shifted and stretched so that ᾱ_T = 0 and ᾱ_1 stays (Lin et al. 2023, algorithm 1). (T+1,) -> (T+1,)."""
    root = abar[1:].sqrt()  # (T,)
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    stretched = torch.cat([abar[:1], root**2])
    return from_rounded(1 - stretched[1:] / stretched[:-1])


def beta_config(abar: Tensor) -> dict:
    """The schedule in diffusers' terms: by name where it is one of the named ones, else as a list of β."""
    T = len(abar) - 1
    betas = 1 - abar[1:] / abar[:-1]  # (T,)
    first, last = round(betas[0].item(), 12), round(betas[-1].item(), 12)
    named = {
        "linear": lambda: schedule.linear(T, first, last),
        "scaled_linear": lambda: schedule.scaled_linear(T, first, last),
        "squaredcos_cap_v2": lambda: schedule.cosine(T),
    }
    ends = {"beta_start": first, "beta_end": last}
    for name, make in named.items():
        if torch.equal(make(), abar):
            return {"beta_schedule": name, **ends, "trained_betas": None}
    return {"beta_schedule": "linear", **ends, "trained_betas": [round(beta, DIGITS) for beta in betas.tolist()]}


def check_scheduler(config: dict) -> None:
    """Raise InputError unless a scheduler config describes levels and a parametrisation that we have."""
    if (kind := config.get("_class_name", SCHEDULERS[0])) not in SCHEDULERS:
        raise InputError(f"{kind} is not supported: {_words(SCHEDULERS)}")
    if (predicts := config.get("prediction_type", "epsilon")) not in PREDICTION_TYPES:
        raise InputError(f"prediction_type {predicts!r} is not supported: {_words(PREDICTION_TYPES)}")
    if config.get("rescale_betas_zero_snr") and predicts == "epsilon":
        raise InputError("rescale_betas_zero_snr with epsilon leaves x_0 undefined at t = T")


def clip_of(config: dict) -> Clip | bool:
    """How a diffusers scheduler clips x̂_0. DDIMScheduler keeps ε as it was; DDPMScheduler's posterior derives it."""
    if not config.get("clip_sample", True):
        return False
    keeps = config.get("_class_name", SCHEDULERS[0]) == "DDIMScheduler"
    return Clip(float(config.get("clip_sample_range", 1.0)), keep_eps=keeps)


def _words(names) -> str:
    return ", ".join("null" if name is None else str(name) for name in names)
