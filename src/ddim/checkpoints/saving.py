"""Writing a model folder, which is a diffusers pipeline folder."""

from dataclasses import asdict
from pathlib import Path

import torch

from ddim import __version__
from ddim.checkpoints.diffusers_config import PREDICTION_TYPES, abar_of, beta_config
from ddim.checkpoints.records import record_of
from ddim.diffusion.model import Model
from ddim.networks.unet import UNetConfig
from ddim.system.files import replacing
from ddim.system.json import write_json

WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")
UNET, SCHEDULER, INDEX = Path("unet/config.json"), Path("scheduler/scheduler_config.json"), Path("model_index.json")


def save(model: Model, to: str | Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write a model folder: weights in `dtype` as safetensors, and what diffusers needs to open it. A network that
    diffusers cannot express is named by our own class, so that diffusers refuses it instead of misreading it.

    The weights are renamed into place last, so that a folder with weights is whole. Raises InputError.
    """
    from safetensors.torch import save_file

    to, c = Path(to), model.network.config
    plain = type(c) is UNetConfig
    name = "UNet2DModel" if plain else type(model.network).__name__
    config = {"_class_name": name, "_diffusers_version": "0.35.0", **asdict(c)}
    pipeline = {
        "_class_name": "DDIMPipeline",
        "_diffusers_version": "0.35.0",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers" if plain else "ddim", name],
        "ddim": {"version": __version__, **record_of(model.facts)},
    }
    for name, value in {UNET: config, SCHEDULER: scheduler_config(model), INDEX: pipeline}.items():
        write_json(to / name, value)
    # A foreign or compiled memory layout is no part of a model: every tensor is stored dense, in its own order.
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.network.state_dict().items()}
    with replacing(to / WEIGHTS) as part:
        save_file(weights, part, metadata={"format": "pt"})
    return to


def scheduler_config(model: Model) -> dict:
    """The diffusers scheduler of a model: the one that its folder had, where it still describes the model; else a
    DDIMScheduler, whose "trailing" grid is our linear one wherever S divides T.
    """
    had, predicts = model.facts.scheduler, {ours: name for name, ours in PREDICTION_TYPES.items()}[model.predicts]
    if had and had.get("prediction_type", "epsilon") == predicts and torch.equal(abar_of(had), model.abar):
        return dict(had)
    return {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.35.0",
        "num_train_timesteps": model.T,
        **beta_config(model.abar),
        "prediction_type": predicts,
        "clip_sample": bool(model.facts.clip),
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "timestep_spacing": "trailing",
    }
