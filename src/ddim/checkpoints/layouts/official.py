"""The folder that the official code trains into and samples from: `ckpt.pth` with `config.yml` beside it."""

import re
from pathlib import Path

import torch

from ddim.checkpoints.diffusers_config import beta_config
from ddim.checkpoints.keys import to_official
from ddim.diffusion.model import Model
from ddim.errors import InputError
from ddim.networks.unet import UNet
from ddim.system.files import folder, replacing

CHECKPOINT = "ckpt.pth"
SCHEDULES = {"linear": "linear", "quad": "scaled-linear"}
SETTINGS = {
    "image_size": ("image_size", int),
    "T": ("num_diffusion_timesteps", int),
    "schedule": ("beta_schedule", SCHEDULES.get),
    "beta_1": ("beta_start", float),
    "beta_T": ("beta_end", float),
    "dropout": ("dropout", float),
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


def settings(path: Path) -> dict:
    """What the `config.yml` beside a checkpoint says, by the names of `ddim.options.Options`; {} where there is none.

    The official code writes tags of Python objects into it, so it is read line by line. Raises InputError.
    """
    beside = path.with_name("config.yml")
    if not beside.is_file():
        return {}
    said = dict(re.findall(r"^\s*(\w+):\s*([\w.+-]+)\s*$", beside.read_text(errors="replace"), re.MULTILINE))
    if (kind := said.get("beta_schedule", "linear")) not in SCHEDULES:
        raise InputError(f"{beside}: beta_schedule {kind} is not supported: {', '.join(SCHEDULES)}")
    try:
        return {name: kind(said[key]) for name, (key, kind) in SETTINGS.items() if key in said}
    except ValueError as error:
        raise InputError(f"{beside}: a setting cannot be read ({error})") from None


def save(model: Model, to: Path) -> Path:
    """Write `ckpt.pth` and `config.yml` as the official code reads them. Raises InputError where it could not.

    The weights stand in the file twice, as trained and averaged, and are stored once.
    """
    network = model.network
    if not isinstance(network, UNet) or not isinstance(network.config.sample_size, int):
        raise InputError("the official code cannot express this network: it is not a DDPM U-Net of square pictures")
    betas = beta_config(model.abar)
    kind = {"linear": "linear", "scaled_linear": "quad"}.get(betas["beta_schedule"])
    if model.predicts != "eps" or kind is None or betas["trained_betas"] is not None:
        what = "the noise schedule" if model.predicts == "eps" else f"the objective {model.predicts}"
        raise InputError(f"the official code cannot express {what} of this model: linear or quad, and ε only")
    state = {key: value.detach().cpu().contiguous() for key, value in to_official(network).items()}
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
