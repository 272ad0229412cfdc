"""Loading a model: a bundled one, a folder of ours or of diffusers, a file of other code, a Hub id."""

import json
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ddim.checkpoints.bundled_models import bundled
from ddim.checkpoints.diffusers_config import lucid_of, try_out, unet_of
from ddim.checkpoints.hub import fetch
from ddim.checkpoints.keys import modern
from ddim.checkpoints.layouts import official, reading
from ddim.checkpoints.layouts.reading import load_file, model_of
from ddim.checkpoints.options import Options, option, options_of
from ddim.checkpoints.records import OF_WEIGHTS, facts_of
from ddim.checkpoints.saving import INDEX, SCHEDULER, UNET
from ddim.checkpoints.scheduler_config import PREDICTION_TYPES, abar_of, check_scheduler, manner_of, unheeded
from ddim.checkpoints.states import below
from ddim.checkpoints.tuned_solvers import SOLVERS
from ddim.checkpoints.tuned_solvers import read as read_solvers
from ddim.checkpoints.weights import assign, read_folder
from ddim.diffusion.model import Model
from ddim.errors import InputError, choose, did_you_mean, shown
from ddim.networks.lucidrains_unet import LucidUNet
from ddim.networks.unet import UNet
from ddim.system.files import meant
from ddim.system.json import checked, read_json
from ddim.system.machine import pick_device

log = logging.getLogger("ddim")

LATENT = ("vae", "vqvae", "text_encoder", "movq", "image_encoder")  # parts of pipelines that do not walk images
AVERAGED = Path("unet_ema/config.json")  # what diffusers' training scripts keep beside unet/
NETWORKS = {
    "UNet2DModel": (UNet, unet_of, "time_embedding.linear_1.weight"),
    "UNet": (UNet, unet_of, "time_embedding.linear_1.weight"),
    "LucidUNet": (LucidUNet, lucid_of, "init_conv.weight"),
}


def load(source: str | Path, device: str | torch.device | None = None, **options) -> Model:
    """The model that `source` names: a bundled name, a run or model folder, a file of weights, or a Hub id.

    Weights come as float32, frozen, in evaluation mode; on `device`, by default a GPU where there is one. `options`
    say what a bare file of weights does not: the fields of `ddim.checkpoints.options.Options`. Raises InputError.
    """
    if not isinstance(source, str | Path):
        raise InputError(f"a model is named by a text or a path; got {shown(source)}")
    chosen, options = pick_device(device), options_of(options)
    path = _find(str(source))
    if (path / official.CHECKPOINT).is_file() and not (path / UNET).exists():  # where the official code trained
        path = path / official.CHECKPOINT
    model = load_file(path, options) if path.is_file() else load_folder(path, options)
    if options.null_label:
        if not model.embeddings:
            raise InputError(f"{path}: knows no classes; leave out {option('null_label')}")
        names = tuple(map(str, range(model.embeddings - 1)))
        model = replace(model, facts=replace(model.facts, classes=names))
    model.network.requires_grad_(False).eval()
    return model.to(chosen)


def outline(source: str) -> Model | None:
    """What a folder says of its model, whose network has no weights yet: to check in a moment what a command asks of
    it. None where only `load` can tell.
    """
    with suppress(OSError, RuntimeError, ValueError):  # no name of a file
        path = Path(source).expanduser()
        path = path if path.exists() else bundled().get(source, path)
        if (path / UNET).is_file():
            return load_folder(path, whole=False)
    return None


def _find(source: str) -> Path:
    """The local folder or file of a model."""
    if not source:
        raise InputError(f"MODEL is empty; name a folder, a Hub id, or one of {', '.join(bundled()) or 'none'}")
    try:
        path = Path(source).expanduser()
        if path.exists() or path.is_symlink():
            return path
    except (OSError, RuntimeError, ValueError) as error:  # too long, of a user who is not there, with a null byte
        reason = getattr(error, "strerror", "") or error
        raise InputError(f"{source[:200]}: no such model ({reason})") from None
    if source in (models := bundled()):
        return models[source]
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".safetensors"):
        raise InputError(f"{source}: no such file of weights{meant(path) or '; check the path'}")
    if source.count("/") == 1 and not source.startswith((".", "/", "~")):
        return fetch(source)
    what = (
        did_you_mean(source, models, 0.7) or meant(path) or f"; name a folder, a Hub id, or one of {', '.join(models)}"
    )
    raise InputError(f"{source}: no such model{what}")


def load_folder(path: Path, options: Options | None = None, whole: bool = True) -> Model:
    """A native or a diffusers folder: the configs, then, if `whole`, the weights into a network made without memory.

    What diffusers keeps in `unet/` and `scheduler/` may also lie at the root. Of averaged weights in `unet_ema/` and
    those as trained in `unet/`, the former are taken, unless `raw`. Of the other options, those are used that the
    folder does not say itself.
    """
    options = options or Options()
    if not path.is_dir():
        raise InputError(f"{path}: not a model folder, which has model_index.json or unet/")
    both = (path / AVERAGED).exists() and (path / UNET).exists()
    averaged = None if not both else not options.raw
    config_path = path / AVERAGED if averaged else _first(path, UNET, AVERAGED, UNET.name)
    scheduler_path = _first(path, SCHEDULER, SCHEDULER.name)
    index = read_json(path / INDEX) if (path / INDEX).exists() else {}
    if parts := [name for name, kind in index.items() if name in LATENT and kind]:
        raise InputError(f"{path / INDEX}: has a {parts[0]}; only models of the images themselves are supported")
    config = read_json(config_path)
    scheduler = read_json(scheduler_path) if scheduler_path.exists() else {}
    unsaid = set() if config.get("sample_size") else {"image_size"}
    unsaid |= set() if scheduler else {"T", "schedule", "beta_1", "beta_T", "objective"}
    unsaid |= {"raw"} if both else set()
    record = index.get("ddim")
    unsaid |= set() if isinstance(record, dict) and "classes" in record else {"null_label"}
    if extra := options.given() - unsaid:
        raise InputError(f"{path}: a model folder says this itself; leave out {option(min(extra))}")
    network, mark = _within(config_path, lambda: network_of(config, options))
    abar, assumed = _within(scheduler_path if scheduler else path, lambda: levels_of(scheduler, options))
    metadata = fill(network, config_path.parent, mark) if whole else {}
    predicts = options.objective or PREDICTION_TYPES[scheduler.get("prediction_type", "epsilon")]
    model = model_of(network, abar, predicts, assumed)
    said = {"source": str(path), "scheduler": scheduler, **({} if averaged is None else {"averaged": averaged})}
    if scheduler and "ddim" not in index:  # a folder of diffusers' own: its scheduler's word counts
        said |= manner_of(scheduler)
        for clause in unheeded(scheduler) if whole else ():
            log.warning("%s: %s", scheduler_path, clause)
    if both and whole:
        kept = ("unet_ema", "the average of training; --raw takes unet") if averaged else ("unet", "as trained")
        log.warning("%s: has unet and unet_ema; took %s, %s", path, *kept)
    said |= facts_of(index.get("ddim", {})) | steps_of(metadata) | tuning_of(path / SOLVERS, model.T)
    return replace(model, facts=replace(model.facts, **said))


def fill(network: torch.nn.Module, folder: Path, mark: str) -> dict[str, str]:
    """Read the weights of a network from its folder; returns the metadata of their file."""
    weights, path, metadata = read_folder(folder)
    weights = below(weights, mark)
    names = modern(weights)
    assign(network, {names[key]: value for key, value in weights.items()}, path, {v: k for k, v in names.items()})
    return metadata


def network_of(config: dict[str, Any], options: Options) -> tuple[torch.nn.Module, str]:
    """The network of a `config.json`, without memory for its weights, and the key that marks such weights."""
    checked(config, {"_class_name": str})
    make, understand, mark = choose("network", config.get("_class_name", "UNet2DModel"), NETWORKS)
    with torch.device("meta"):
        network = make(understand(config, options.image_size))
    try_out(network)
    return network, mark


def levels_of(scheduler: dict[str, Any], options: Options) -> tuple[torch.Tensor, dict]:
    """abar of a scheduler's configuration, or of the options where there is none; and what was assumed."""
    if not scheduler:
        return reading.abar_of(options, for_1000=False)
    check_scheduler(scheduler)
    return abar_of(scheduler), {}


def steps_of(metadata: dict[str, str]) -> dict[str, int]:
    """How far its training had come, from the metadata of a file of weights."""
    try:
        record = json.loads(metadata.get("ddim", "{}"))
    except ValueError:
        return {}
    return {name: value for name, value in facts_of(record).items() if name in OF_WEIGHTS}


def tuning_of(path: Path, T: int) -> dict[str, Any]:
    """What its solvers.json tells of a model; a damaged one is left out with a warning."""
    try:
        return {"tuning": read_solvers(path, T)} if path.exists() else {}
    except InputError as error:
        log.warning("%s; remove it, or run `ddim tune` again", error)
        return {}


def _within(path: Path, make):
    """What `make` gives; its InputErrors name the file."""
    try:
        return make()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _first(root: Path, *names: str | Path) -> Path:
    """The first of the files that exists; the first name where none does."""
    return next((root / name for name in names if (root / name).exists()), root / names[0])
