"""Loading a model: a bundled one, a folder of ours or of diffusers, a file of other code, a Hub id."""

from dataclasses import replace
from pathlib import Path

import torch

from ddim.checkpoints.bundled_models import bundled
from ddim.checkpoints.diffusers_config import (
    PREDICTION_TYPES,
    abar_of,
    check_scheduler,
    clip_of,
    plain_fields,
    unet_of,
)
from ddim.checkpoints.hub import fetch
from ddim.checkpoints.keys import modern
from ddim.checkpoints.layouts import official
from ddim.checkpoints.layouts import reading as foreign
from ddim.checkpoints.layouts.reading import load_file
from ddim.checkpoints.options import Options, option
from ddim.checkpoints.records import facts_of
from ddim.checkpoints.saving import INDEX, SCHEDULER, UNET, WEIGHTS
from ddim.checkpoints.weights import assign, is_state, read
from ddim.diffusion.model import Model
from ddim.errors import InputError, choose
from ddim.networks.lucidrains_unet import LucidConfig, LucidUNet
from ddim.networks.unet import UNet
from ddim.system.json import read_json
from ddim.system.machine import pick_device

LATENT = ("vae", "vqvae", "text_encoder", "movq", "image_encoder")  # parts of pipelines that do not walk images
NETWORKS = {
    "UNet2DModel": (UNet, unet_of),
    "UNet": (UNet, unet_of),
    "LucidUNet": (LucidUNet, lambda config, size: LucidConfig(**plain_fields(LucidConfig, config))),
}


def load(source: str | Path, device: str | torch.device | None = None, **options) -> Model:
    """The model that `source` names: a bundled name, a run or model folder, a file of weights, or a Hub id.

    Weights come as float32, frozen, in evaluation mode; on `device`, by default a GPU where there is one. `options`
    say what a bare file of weights does not: the fields of `ddim.options.Options`. Raises InputError.
    """
    chosen = pick_device(device)
    path, options = _find(str(source)), Options(**options)
    if (path / official.CHECKPOINT).is_file() and not (path / UNET).exists():  # where the official code trained
        path = path / official.CHECKPOINT
    model = load_file(path, options) if path.is_file() else load_folder(path, options)
    model.network.requires_grad_(False).eval()
    return model.to(chosen)


def _find(source: str) -> Path:
    """The local folder or file of a model."""
    path = Path(source).expanduser()
    if path.exists() or path.is_symlink():
        return path
    if source in (models := bundled()):
        return models[source]
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".safetensors"):
        raise InputError(f"{source}: no such file of weights")
    if source.count("/") == 1 and not source.startswith((".", "/", "~")):
        return fetch(source)
    raise InputError(f"{source}: no such model; name a folder, a Hub id, or one of {', '.join(models) or 'none'}")


def load_folder(path: Path, options: Options | None = None) -> Model:
    """A native or a diffusers folder: the configs, then the weights into a network made without memory.

    What diffusers keeps in `unet/` and `scheduler/` may also lie at the root. Of the options, those are used that the
    folder does not say itself.
    """
    options = options or Options()
    if not path.is_dir():
        raise InputError(f"{path}: not a model folder")
    config_path = _first(path, UNET, UNET.name)
    config, index = read_json(config_path), read_json(path / INDEX) if (path / INDEX).exists() else {}
    if parts := [name for name, kind in index.items() if name in LATENT and kind]:
        raise InputError(f"{path / INDEX}: has a {parts[0]}; only models of the images themselves are supported")
    make, understand = choose("network", config.get("_class_name", "UNet2DModel"), NETWORKS)
    scheduler_path = _first(path, SCHEDULER, SCHEDULER.name)
    unsaid = set() if config.get("sample_size") else {"image_size"}
    unsaid |= set() if scheduler_path.exists() else {"T", "schedule", "beta_1", "beta_T", "objective"}
    if extra := options.given() - unsaid:
        raise InputError(f"{path}: a model folder says this itself; leave out {option(min(extra))}")
    try:
        c = understand(config, options.image_size)
        if scheduler_path.exists():
            scheduler, assumed = read_json(scheduler_path), {}
            check_scheduler(scheduler)
            abar = abar_of(scheduler)
        else:
            scheduler, (abar, assumed) = {}, foreign.abar_of(options, for_1000=False)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    with torch.device("meta"):
        network = make(c)
    weights_path = _first(config_path.parent, WEIGHTS.name, "diffusion_pytorch_model.bin")
    weights = read(weights_path)
    if not is_state(weights):
        raise InputError(f"{weights_path}: holds no state dict")
    names = modern(weights)
    assign(
        network, {names[key]: value for key, value in weights.items()}, weights_path, {v: k for k, v in names.items()}
    )
    predicts = options.objective or PREDICTION_TYPES[scheduler.get("prediction_type", "epsilon")]
    model = foreign.model_of(network, abar, predicts, assumed)
    said = {"source": str(path), "scheduler": scheduler, **facts_of(index.get("ddim", {}))}
    if scheduler and "ddim" not in index:  # a folder of diffusers' own: its scheduler's word counts
        said["clip"] = clip_of(scheduler)
    return replace(model, facts=replace(model.facts, **said))


def _first(root: Path, *names: str | Path) -> Path:
    """The first of the files that exists; the first name where none does."""
    return next((root / name for name in names if (root / name).exists()), root / names[0])
