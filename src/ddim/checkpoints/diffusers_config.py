"""diffusers' configurations of a U-Net in our terms, each field honoured or refused by its name."""

from dataclasses import fields

import torch

from ddim.errors import InputError
from ddim.networks.blocks import ExtendedConfig, UNetConfig
from ddim.networks.lucidrains_unet import LucidConfig
from ddim.system.json import checked, fields_of

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
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
}
IGNORED = {  # only a learned time embedding reads the first; the others belong to diffusers' EMAModel
    "num_train_timesteps", "decay", "min_decay", "inv_gamma", "power", "optimization_step", "update_after_step",
    "use_ema_warmup",
}  # fmt: skip
WHY = {"class_embed_type": "classes are known by a table of embeddings alone (null, with num_class_embeds)"}
RANGES: dict[str, tuple[float, float]] = {  # the least and the most of each number
    "sample_size": (1, 2048),
    "layers_per_block": (1, 32),
    "norm_num_groups": (1, 2**14),
    "dropout": (0, 0.999),
    "norm_eps": (1e-30, 1),
    "freq_shift": (-(2**14), 2**14),
    "downsample_padding": (0, 1),
    "attention_head_dim": (1, 2**14),
    "mid_block_scale_factor": (1e-6, 1e6),
    "attn_norm_num_groups": (1, 2**14),
    "time_embedding_dim": (1, 2**16),
    "num_class_embeds": (1, 2**20),
    "num_heads": (1, 2**14),
    "time_scale": (1e-9, 1e9),
    "patch": (1, 64),
    "dim": (2, 2**14),
    "init_dim": (1, 2**14),
    "memory": (0, 2**14),
    "block_out_channels": (1, 2**14),
    "heads": (1, 2**14),
    "head_dims": (1, 2**14),
}
LEVELS = 12  # resolutions at most
OURS = {"num_heads": None, "time_scale": 1.0, "patch": 1}  # the fields of ExtendedConfig, and the values that need none
BLOCKS = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
}


def unet_of(config: dict, image_size: int | None = None) -> UNetConfig:
    """The U-Net of a diffusers `config.json`, every field honoured; InputError naming one that cannot be.

    `image_size` stands in where the file has no sample_size.
    """
    ours = {field.name for field in fields(ExtendedConfig)}
    for name, value in config.items():
        if name in ONLY and value not in ONLY[name]:
            raise InputError(f"{name} {value!r} is not supported: {WHY.get(name, _words(ONLY[name]))}")
        known = name in ours or name in ONLY or name in IGNORED or name.startswith("_")
        if not known and value is not None and value is not False:
            raise InputError(f"{name} {value!r} is not supported: ddim does not know this field")
    given = checked(config, {"sample_size": int | tuple[int, int] | None})
    given |= fields_of(ExtendedConfig, {name: value for name, value in config.items() if name not in given})
    given["sample_size"] = given.get("sample_size") or image_size
    if given["sample_size"] is None:
        raise InputError("has no sample_size; give --image-size")
    unet = narrowest({**OMITTED, **given})
    check(unet)
    return unet


def lucid_of(config: dict, image_size: int | None = None) -> LucidConfig:
    """The lucidrains U-Net of a folder's `config.json`. Raises InputError by field."""
    c = LucidConfig(**fields_of(LucidConfig, config))
    in_range(c)
    levels = len(c.block_out_channels)
    for name in ("full_attention", "heads", "head_dims"):
        if len(getattr(c, name)) != levels:
            raise InputError(f"{len(getattr(c, name))} {name} for {levels} block_out_channels")
    check_size(c.sample_size, levels)
    return c


def in_range(c: UNetConfig | LucidConfig) -> None:
    """Raise InputError, by field, where a number is out of its range."""
    for name, (least, most) in RANGES.items():
        value = getattr(c, name, None)
        for number in value if isinstance(value, tuple) else [] if value is None else [value]:
            if not least <= number <= most:
                raise InputError(f"{name} must be from {least:g} to {most:g}; got {number}")
    if not 1 <= len(c.block_out_channels) <= LEVELS:
        raise InputError(f"block_out_channels must have from 1 to {LEVELS} values; got {len(c.block_out_channels)}")
    if c.in_channels not in (1, 3):
        raise InputError(f"in_channels {c.in_channels} is not supported: images have 1 or 3")
    if c.out_channels not in (c.in_channels, 2 * c.in_channels):
        raise InputError(
            f"in_channels {c.in_channels} with out_channels {c.out_channels} is not supported: networks that see a "
            "second image are not"
        )


def check_size(size: int | tuple[int, int], levels: int, patch: int = 1) -> None:
    """Raise InputError unless images of this size are square, and can be halved as often as the network does."""
    if not isinstance(size, int):
        if size[0] != size[1]:
            raise InputError(f"sample_size {size[0]}×{size[1]} is not square: only square images are supported")
        size = size[0]
    if size % (patch * 2 ** (levels - 1)):
        after = f" by patches of {patch}" if patch > 1 else ""
        raise InputError(f"sample_size {size} cannot be halved {levels - 1} times{after}, as this network does")


def check(c: UNetConfig) -> None:
    """Raise InputError, by field, where a value is out of its range or the fields do not fit together."""
    in_range(c)
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
    if c.attn_norm_num_groups and c.block_out_channels[-1] % c.attn_norm_num_groups:
        raise InputError(f"width {c.block_out_channels[-1]} is not divisible by attn_norm_num_groups")
    if c.block_out_channels[0] // 2 - c.freq_shift < 1:
        raise InputError(f"freq_shift {c.freq_shift} is too large for a first width of {c.block_out_channels[0]}")
    check_size(c.sample_size, levels, c.patch)


def try_out(network: torch.nn.Module) -> None:
    """Raise InputError unless a network on the meta device takes an image of its own size and gives one back."""
    c = network.config
    size = c.sample_size if isinstance(c.sample_size, int) else c.sample_size[0]
    x, inputs = torch.empty(1, c.in_channels, size, size, device="meta"), [torch.zeros(1, device="meta")]
    if getattr(c, "num_class_embeds", None):
        inputs.append(torch.zeros(1, dtype=torch.long, device="meta"))
    try:
        out = network.eval()(x, *inputs)
    except Exception as error:  # whatever layers say that do not fit together
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise InputError(f"this network cannot run ({reason})") from None
    if out.shape != (1, c.out_channels, size, size):
        raise InputError(f"this network turns images of {size}×{size} into {out.shape[2]}×{out.shape[3]}")


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


def _words(names) -> str:
    return ", ".join("null" if name is None else str(name) for name in names)
