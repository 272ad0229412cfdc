"""Writing a model folder, which is a diffusers pipeline folder."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from ddim import __version__
from ddim.checkpoints.records import OF_WEIGHTS, record_of
from ddim.checkpoints.scheduler_config import scheduler_config
from ddim.checkpoints.tuned_solvers import write
from ddim.diffusion.model import Model
from ddim.errors import InputError, shown
from ddim.networks.unet import UNetConfig
from ddim.system.files import replacing
from ddim.system.json import write_json

WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")
UNET, SCHEDULER, INDEX = Path("unet/config.json"), Path("scheduler/scheduler_config.json"), Path("model_index.json")


def save(model: Model, to: str | Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write a model folder: weights in `dtype` as safetensors, and what diffusers needs to open it. A network that
    diffusers cannot express is named by our own class, so that diffusers refuses it instead of misreading it.

    The weights are renamed into place last, so that a folder with weights is whole; what changes with them in training
    (steps, images) is kept within their file too, so that who reads meanwhile gets both of the same step. Raises
    InputError.
    """
    from safetensors.torch import save_file

    if not isinstance(model, Model) or not hasattr(model.network, "config"):
        raise InputError(f"only a model with a network of ours can be saved, as ddim.load gives it; got {shown(model)}")
    if not isinstance(to, str | Path) or not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(f"save takes a folder, and a floating-point dtype; got {shown(to)} and {dtype!r:.60}")
    to, c = Path(to), model.network.config
    plain = type(c) is UNetConfig
    name = "UNet2DModel" if plain else type(model.network).__name__
    config = {"_class_name": name, "_diffusers_version": "0.35.0", **asdict(c)}
    if config.get("num_class_embeds", 0) is None:
        del config["num_class_embeds"]  # diffusers' default: what knows no classes is the same bytes as ever
    family = "DDPM" if model.learns_variance else "DDIM"  # whose scheduler takes a variance
    pipeline = {
        "_class_name": f"{family}Pipeline",
        "_diffusers_version": "0.35.0",
        "scheduler": ["diffusers", f"{family}Scheduler"],
        "unet": ["diffusers" if plain else "ddim", name],
        "ddim": {"version": __version__, **record_of(model.facts)},
    }
    steps = {name: value for name in OF_WEIGHTS if (value := getattr(model.facts, name)) is not None}
    metadata = {"format": "pt"} | ({"ddim": json.dumps(steps)} if steps else {})
    for name, value in {UNET: config, SCHEDULER: scheduler_config(model), INDEX: pipeline}.items():
        write_json(to / name, value)
    if model.facts.tuning is not None:
        write(model.facts.tuning, to)
    # A foreign or compiled memory layout is no part of a model: every tensor is stored dense, in its own order.
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.network.state_dict().items()}
    with replacing(to / WEIGHTS) as part:
        save_file(weights, part, metadata=metadata)
        sort_metadata(part)
    return to


def sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file in order, in place: safetensors writes them in any, and the same model
    should be the same bytes."""
    with open(path, "rb+") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(size))
