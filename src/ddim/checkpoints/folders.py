"""Models on disk. A model folder is a diffusers pipeline folder, so each side opens what the other wrote."""

import hashlib
import json
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path

import torch

from ddim import __version__
from ddim.checkpoints.diffusers_config import (
    PREDICTION_TYPES,
    abar_of,
    beta_config,
    check_scheduler,
    plain_fields,
    unet_of,
)
from ddim.checkpoints.keys import modern
from ddim.checkpoints.layouts import files as foreign
from ddim.checkpoints.layouts import official
from ddim.checkpoints.layouts.files import load_file
from ddim.checkpoints.options import Options, option
from ddim.checkpoints.weights import assign, is_state, read
from ddim.diffusion.model import Model
from ddim.errors import InputError, choose
from ddim.networks.lucidrains_unet import LucidConfig, LucidUNet
from ddim.networks.unet import UNet, UNetConfig
from ddim.system.files import folder, replacing

WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")
UNET, SCHEDULER, INDEX = Path("unet/config.json"), Path("scheduler/scheduler_config.json"), Path("model_index.json")
LATENT = ("vae", "vqvae", "text_encoder", "movq", "image_encoder")  # parts of pipelines that do not walk pictures
NETWORKS = {
    "UNet2DModel": (UNet, unet_of),
    "UNet": (UNet, unet_of),
    "LucidUNet": (LucidUNet, lambda config, size: LucidConfig(**plain_fields(LucidConfig, config))),
}


def bundled() -> dict[str, Path]:
    """The models that come with the package: name -> folder."""
    root = Path(str(files("ddim") / "checkpoints" / "bundled"))
    return {path.name: path for path in sorted(root.iterdir()) if path.is_dir()} if root.is_dir() else {}


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
        "ddim": {"version": __version__, **model.info},
    }
    for name, value in {UNET: config, SCHEDULER: scheduler_config(model), INDEX: pipeline}.items():
        write_json(to / name, value)
    # A foreign or compiled memory layout is no part of a model: every tensor is stored dense, in its own order.
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.network.state_dict().items()}
    with replacing(to / WEIGHTS) as part:
        save_file(weights, part, metadata={"format": "pt"})
    return to


def write_json(path: Path, value) -> None:
    """Write JSON, whole or not at all, making its folder."""
    folder(path.parent)
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=2) + "\n")


def fingerprint(model: Model) -> str:
    """Sixteen hex digits that name the weights and the noise schedule: the same function, the same fingerprint.

    A model in less than float32 carries in its info the one of the weights that it was rounded from.
    """
    if "fingerprint" in model.info:
        return model.info["fingerprint"]
    digest = hashlib.sha256(model.abar.numpy().tobytes() + model.predicts.encode())
    for name, value in sorted(model.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()[:16]


def claim(path: Path, settings: dict) -> None:
    """Write down the settings that a folder's files are made with, or raise InputError where it has other ones."""
    settings = json.loads(json.dumps(settings))
    before = read_json(path) if path.exists() else settings
    for name, value in settings.items():
        if before.get(name) != value:
            raise InputError(
                f"{path.parent}: holds files made with {name} {before.get(name)}, not {value}; change --out"
            )
    write_json(path, settings)


def scheduler_config(model: Model) -> dict:
    """diffusers' DDIMScheduler for a model: its "trailing" grid is our linear one wherever S divides T."""
    return {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.35.0",
        "num_train_timesteps": model.T,
        **beta_config(model.abar),
        "prediction_type": next(name for name, ours in PREDICTION_TYPES.items() if ours == model.predicts),
        "clip_sample": bool(model.info.get("clip_sample", False)),
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "timestep_spacing": "trailing",
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


def pick_device(device: str | torch.device | None) -> torch.device:
    """The device named, or else a GPU where there is one. Raises InputError where it is not there."""
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return torch.empty(0, device=chosen).device
    except Exception as error:  # an unknown name, a missing driver, a GPU number too many
        raise InputError(f"device {device} is not to be had here ({str(error).splitlines()[0][:120]})") from None


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
        return _fetch(source)
    raise InputError(f"{source}: no such model; name a folder, a Hub id, or one of {', '.join(models) or 'none'}")


def _fetch(name: str) -> Path:
    """The cached folder of a model on the Hub; its pickled weights only where it has no safetensors."""
    from huggingface_hub import snapshot_download

    try:
        for suffix in ("safetensors", "bin"):
            path = Path(snapshot_download(name, allow_patterns=["*.json", f"*diffusion_pytorch_model.{suffix}"]))
            if any(path.rglob(f"diffusion_pytorch_model.{suffix}")):
                break
        return path
    except Exception as error:  # the Hub's own errors, and the network's
        reason = str(error).splitlines()[0][:160]
        raise InputError(f"{name}: no such folder, and not reachable on the Hub either ({reason})") from error


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
        raise InputError(f"{path / INDEX}: has a {parts[0]}; only models of the pictures themselves are supported")
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
    clip = {"clip_sample": True} if scheduler.get("clip_sample", bool(scheduler)) else {}
    return replace(model, info={"source": str(path), **clip, **model.info, **index.get("ddim", {})})


def _first(root: Path, *names: str | Path) -> Path:
    """The first of the files that exists; the first name where none does."""
    return next((root / name for name in names if (root / name).exists()), root / names[0])


def read_json(path: Path) -> dict:
    """A JSON object from a file, or an InputError that names the file."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is this a model folder?") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value
