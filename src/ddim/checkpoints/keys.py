"""Key tables: what other code calls the parameters of the DDPM U-Net, and what the shapes of its weights tell.

A layout's table is one function, (our key, config) -> their key. It is read forwards to export and backwards to import.
"""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ddim.checkpoints.diffusers_config import OURS, attention_widths, narrowest, with_heads
from ddim.checkpoints.states import State
from ddim.checkpoints.weights import assign, refuse_unusual
from ddim.networks.unet import UNet, UNetConfig

Naming = Callable[[str, UNetConfig], str]

# diffusers of before 2023 -> diffusers
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

# ours -> the official DDIM code, which has the names of the DDPM weights converted from TensorFlow
OFFICIAL = {
    r"^time_embedding\.linear_1": "temb.dense.0",
    r"^time_embedding\.linear_2": "temb.dense.1",
    r"^conv_norm_out": "norm_out",
    r"^mid_block\.resnets\.0": "mid.block_1",
    r"^mid_block\.resnets\.1": "mid.block_2",
    r"^mid_block\.attentions\.0": "mid.attn_1",
    r"^down_blocks": "down",
    r"\.resnets\.": ".block.",
    r"\.attentions\.": ".attn.",
    r"\.(down|up)samplers\.0": r".\1sample",
    r"time_emb_proj": "temb_proj",
    r"conv_shortcut": "nin_shortcut",
    r"group_norm": "norm",
    r"to_([qkv])\.": r"\1.",
    r"to_out\.0": "proj_out",
}

# ours -> improved-diffusion and guided-diffusion, within a block and outside the numbered ones
IMPROVED = {
    r"^time_embedding\.linear_1": "time_embed.0",
    r"^time_embedding\.linear_2": "time_embed.2",
    r"^class_embedding": "label_emb",
    r"^conv_in": "input_blocks.0.0",
    r"^conv_norm_out": "out.0",
    r"^conv_out": "out.2",
    r"^mid_block\.resnets\.0": "middle_block.0",
    r"^mid_block\.attentions\.0": "middle_block.1",
    r"^mid_block\.resnets\.1": "middle_block.2",
    r"norm1": "in_layers.0",
    r"conv1": "in_layers.2",
    r"time_emb_proj": "emb_layers.1",
    r"norm2": "out_layers.0",
    r"conv2": "out_layers.3",
    r"conv_shortcut": "skip_connection",
    r"group_norm": "norm",
    r"to_[qkv]\.": "qkv.",
    r"to_out\.0": "proj_out",
}


def official_name(key: str, c: UNetConfig) -> str:
    """What the official code calls one of our parameters. It counts the resolutions from the finest in both halves."""
    key = re.sub(r"^up_blocks\.(\d+)", lambda m: f"up.{len(c.block_out_channels) - 1 - int(m[1])}", key)
    return _rename(key, OFFICIAL)


def improved_name(key: str, c: UNetConfig) -> str:
    """What improved-diffusion and guided-diffusion call one of our parameters. They number the blocks through."""

    def number(m: re.Match) -> str:
        half, level, part, i = m[1], int(m[2]), m[3], int(m[4])
        a_level = c.layers_per_block + 1  # numbered blocks a resolution, in both halves
        if part in ("resnets", "attentions"):
            n, place = level * a_level + i, int(part == "attentions")
        elif half == "down":
            n, place = level * a_level + c.layers_per_block, 0
        else:  # after the resnet and the attention of the last block
            n, place = level * a_level + c.layers_per_block, 1 + c.up_block_types[level].startswith("Attn")
        return f"input_blocks.{n + 1}.{place}" if half == "down" else f"output_blocks.{n}.{place}"

    key = re.sub(r"(downsamplers\.0)\.conv\.", r"\1.op.", key)
    return _rename(re.sub(r"^(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)", number, key), IMPROVED)


def _rename(key: str, table: dict[str, str]) -> str:
    for ours, theirs in table.items():
        key = re.sub(ours, theirs, key)
    return key


def modern(state: State) -> dict[str, str]:
    """For a diffusers state dict: key -> key with the attention names of today."""
    old = "|".join(OLD_ATTENTION)
    return {key: re.sub(rf"\.({old})\.", lambda m: f".{OLD_ATTENTION[m[1]]}.", str(key)) for key in state}


def build(c: UNetConfig, state: State, naming: Naming, source: Path, split: Callable | None = None) -> UNet:
    """A U-Net with the weights of a foreign state dict. `split` picks our part (key, tensor) of a joint tensor."""
    with torch.device("meta"):
        network = UNet(c)
    wanted = network.state_dict()
    names = {key: naming(key, c) for key in wanted}
    weights = {key: state[theirs] for key, theirs in names.items() if theirs in state}
    refuse_unusual(weights, source, names)
    weights = {key: split(key, value) for key, value in weights.items()} if split else weights
    # Their 1×1 convolutions are our linear layers.
    weights = {k: v.flatten(1) if v.dim() > wanted[k].dim() else v for k, v in weights.items()}
    known = set(names.values())
    assign(network, weights | {key: value for key, value in state.items() if key not in known}, source, names)
    return network


def beyond_official(c: UNetConfig) -> list[str]:
    """The fields of a U-Net that the official code cannot express, each with what it has instead."""
    fixed = {name: getattr(UNetConfig, name) for name in UNetConfig.__dataclass_fields__}
    for name in ("sample_size", "in_channels", "out_channels", "layers_per_block", "dropout"):
        del fixed[name]
    widths = c.block_out_channels
    fixed |= OURS | {
        "block_out_channels": tuple(max(1, width // widths[0]) * widths[0] for width in widths),
        "down_block_types": tuple(kind.replace("Resnet", "") for kind in c.down_block_types),
        "up_block_types": tuple(kind.replace("Down", "Up") for kind in reversed(c.down_block_types)),
        "time_embedding_dim": c.time_embedding_dim and 4 * widths[0],
        "attn_norm_num_groups": c.attn_norm_num_groups and c.norm_num_groups,
    }
    one_head = attention_widths(c) == {c.attention_head_dim} or c.num_heads == 1
    for name in ("attention_head_dim", "num_heads") if one_head else ():
        del fixed[name]
    has = fixed | {"block_out_channels": f"multiples of {widths[0]}"}
    return [f"{name} {getattr(c, name)} (it has {has[name]})" for name in fixed if getattr(c, name) != fixed[name]]


def to_official(network: UNet) -> State:
    """The state dict that the official code's model has for a U-Net that it can express: see `beyond_official`."""
    state = {official_name(key, network.config): value for key, value in network.state_dict().items()}
    attends = re.compile(r"\.(q|k|v|proj_out)\.weight$")
    return {key: value[:, :, None, None] if attends.search(key) else value for key, value in state.items()}


def official_config(state: State) -> dict:
    """The U-Net fields that the shapes of an official state dict tell. A key that is not there is a KeyError."""
    levels = range(1 + max((int(m[1]) for key in state if (m := re.match(r"down\.(\d+)\.", key))), default=0))
    layers = len({m[1] for key in state if (m := re.match(r"down\.0\.block\.(\d+)\.", key))})
    attends = [f"down.{i}.attn.0.q.weight" in state for i in levels]
    return {
        "in_channels": state["conv_in.weight"].shape[1],
        "out_channels": state["conv_out.weight"].shape[0],
        "block_out_channels": tuple(state[f"down.{i}.block.0.conv1.weight"].shape[0] for i in levels),
        "down_block_types": tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        "up_block_types": tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        "layers_per_block": layers,
    }


def improved_config(state: State) -> dict:
    """The U-Net fields that the shapes of an improved- or guided-diffusion state dict tell. KeyError as above.

    The end of a resolution shows in its last output block, which also holds what enlarges the image.
    """
    blocks = 1 + max((int(m[1]) for key in state if (m := re.match(r"output_blocks\.(\d+)\.", key))), default=-1)
    ends = {
        (int(m[1]), m[2]) for key in state if (m := re.match(r"output_blocks\.(\d+)\.[12]\.(conv|in_layers)\.", key))
    }
    a_level = min(ends)[0] + 1 if ends else blocks
    if not blocks or blocks % a_level:
        raise KeyError(f"output_blocks.{a_level * -(-blocks // a_level) - 1 if a_level else 0}")
    starts = range(0, blocks, a_level)  # the first block of each resolution, the coarsest first
    widths = [state[f"output_blocks.{n}.0.in_layers.2.weight"].shape[0] for n in starts]
    attends = [f"output_blocks.{n}.1.qkv.weight" in state for n in starts]
    resnet = any(kind == "in_layers" for _, kind in ends)
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if resnet else ("DownBlock2D", "UpBlock2D")
    modulates = state["middle_block.0.emb_layers.1.weight"].shape[0] == 2 * widths[0]
    return {
        "in_channels": state["input_blocks.0.0.weight"].shape[1],
        "out_channels": state["out.2.weight"].shape[0],
        "block_out_channels": tuple(reversed(widths)),
        "down_block_types": tuple("AttnDownBlock2D" if a else plain[0] for a in reversed(attends)),
        "up_block_types": tuple("AttnUpBlock2D" if a else plain[1] for a in attends),
        "layers_per_block": a_level - 1,
        "norm_eps": 1e-5,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "downsample_padding": 1,
        "resnet_time_scale_shift": "scale_shift" if modulates else "default",
        "attn_norm_num_groups": 32 if modulates else None,
        "num_class_embeds": len(state["label_emb.weight"]) if "label_emb.weight" in state else None,
        "downsample_type": "resnet" if resnet else "conv",
        "upsample_type": "resnet" if resnet else "conv",
    }


def with_attention(fields: dict, heads: int, head_channels: int | None) -> UNetConfig:
    """The U-Net of `fields` with `heads` heads at every width, or with heads of `head_channels` channels."""
    chosen = {"attention_head_dim": head_channels} if head_channels else with_heads(narrowest(fields), heads)
    return narrowest(fields | chosen)


def split_qkv(c: UNetConfig, by_kind: bool) -> Callable[[str, Tensor], Tensor]:
    """(our key, joint tensor) -> our part: a Conv1d's q, k and v, heads first, or kinds first if `by_kind`."""

    def split(key: str, value: Tensor) -> Tensor:
        if not (m := re.search(r"\.to_([qkv])\.", key)) or value.shape[0] % 3:
            return value
        width = value.shape[0] // 3
        heads = 1 if by_kind else c.num_heads or width // (c.attention_head_dim or width)
        parts = value.reshape(heads, 3, width // heads, *value.shape[1:])
        return parts[:, "qkv".index(m[1])].reshape(width, *value.shape[1:])

    return split
