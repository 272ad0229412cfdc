"""The folder that the official code trains into and samples from: `ckpt.pth` with `config.yml` beside it."""

from pathlib import Path
from typing import Any

import torch
import yaml

from ddim.checkpoints import keys
from ddim.checkpoints.scheduler_config import beta_config
from ddim.diffusion.model import Model
from ddim.errors import InputError
from ddim.networks.unet import UNet
from ddim.system.files import folder, replacing
from ddim.system.json import checked, read_text

CHECKPOINT = "ckpt.pth"
SCHEDULES = {"linear": "linear", "quad": "scaled-linear"}
SETTINGS: dict[str, tuple[str, str, Any]] = {  # ours -> theirs, with its section and kind
    "image_size": ("data", "image_size", int),
    "T": ("diffusion", "num_diffusion_timesteps", int),
    "schedule": ("diffusion", "beta_schedule", str),
    "beta_1": ("diffusion", "beta_start", float),
    "beta_T": ("diffusion", "beta_end", float),
    "dropout": ("model", "dropout", float),
}
ONLY = {  # settings of which we have one value
    ("data", "logit_transform"): False,
    ("data", "rescaled"): True,
    ("model", "resamp_with_conv"): True,
}
CONFIG_YML = """data:
    dataset: "CUSTOM"
    image_size: {size}
    channels: {c.in_channels}
    logit_transform: false
    uniform_dequantization: false
    gaussian_dequantization: false
    random_flip: true
    rescaled: true
    num_workers: 4

model:
    type: "simple"
    in_channels: {c.in_channels}
    out_ch: {c.out_channels}
    ch: {ch}
    ch_mult: {mult}
    num_res_blocks: {c.layers_per_block}
    attn_resolutions: {attention}
    dropout: {c.dropout}
    var_type: fixedlarge
    ema_rate: 0.9999
    ema: True
    resamp_with_conv: True

diffusion:
    beta_schedule: {beta_schedule}
    beta_start: {beta_start}
    beta_end: {beta_end}
    num_diffusion_timesteps: {T}

sampling:
    batch_size: 64
    last_only: True
"""


class Loader(yaml.SafeLoader):
    """Plain values only; the tags of Python objects that the official code writes are passed over, never made."""


def _untagged(loader: Loader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


Loader.add_multi_constructor("tag:yaml.org,2002:python/", _untagged)


def settings(path: Path) -> dict[str, Any]:
    """What the `config.yml` beside a checkpoint says, by the names of `checkpoints.options.Options`; {} without one.

    Raises InputError where it is no YAML, or by field.
    """
    beside = path.with_name("config.yml")
    if not beside.exists():
        return {}
    try:
        said = yaml.load(read_text(beside, "YAML"), Loader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError, KeyError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:160] if str(error) else type(error).__name__
        raise InputError(f"{beside}: cannot be read as YAML ({reason})") from None
    if not isinstance(said, dict):
        raise InputError(f"{beside}: not a YAML mapping")

    def find(section: str, key: str) -> Any:
        inside = said.get(section)
        return inside.get(key) if isinstance(inside, dict) else said.get(key)

    try:
        for (section, key), value in ONLY.items():
            if find(section, key) not in (None, value):
                raise InputError(f"{section}.{key} {find(section, key)} is not supported: {value}")
        found = {}
        for name, (section, key, kind) in SETTINGS.items():
            if (value := find(section, key)) is not None:
                value = _number(value) if kind is float else value
                found |= {name: checked({key: value}, {key: kind})[key]}
                if kind in (int, float) and value < 0:
                    raise InputError(f"{section}.{key} must be 0 or more; got {value}")
        if (kind := found.get("schedule", "linear")) not in SCHEDULES:
            raise InputError(f"beta_schedule {kind} is not supported: {', '.join(SCHEDULES)}")
    except InputError as error:
        raise InputError(f"{beside}: {error}") from None
    return found | ({"schedule": SCHEDULES[kind]} if "schedule" in found else {})


def _number(value: Any) -> Any:
    """A number that YAML takes for a text: 1e-4, which has no point."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def save(model: Model, to: Path) -> Path:
    """Write `ckpt.pth` and `config.yml` as the official code reads them. Raises InputError where it could not.

    The weights stand in the file twice, as trained and averaged, and are stored once.
    """
    network, betas = model.network, beta_config(model.abar)
    kind = {"linear": "linear", "scaled_linear": "quad"}.get(betas["beta_schedule"])
    wrong = [] if isinstance(network, UNet) else [f"the network {type(network).__name__}"]
    wrong += [] if model.predicts == "eps" else [f"the objective {model.predicts} (it has ε)"]
    if kind is None or betas["trained_betas"] is not None:
        wrong += ["the noise schedule (it has linear and quad)"]
    if isinstance(network, UNet):
        wrong += keys.beyond_official(network.config)
    if wrong:
        raise InputError(f"the official code cannot express {', '.join(wrong)}")
    state = {key: value.detach().cpu().contiguous() for key, value in keys.to_official(network).items()}
    c = network.config
    attends = [c.sample_size >> i for i, kind in enumerate(c.down_block_types) if kind.startswith("Attn")]
    text = CONFIG_YML.format(
        c=c,
        size=c.sample_size,
        ch=c.block_out_channels[0],
        mult=[width // c.block_out_channels[0] for width in c.block_out_channels],
        attention=attends,
        T=model.T,
        **{**betas, "beta_schedule": kind},
    )
    folder(to)
    with replacing(to / "config.yml") as part:
        part.write_text(text)
    trained = {f"module.{key}": value for key, value in state.items()}
    with replacing(to / CHECKPOINT) as part, open(part, "wb") as file:
        torch.save([trained, {}, 0, 0, state], file)
    return to / CHECKPOINT
