"""Models on disk. A model folder is a diffusers pipeline folder, so each side opens what the other wrote."""

import hashlib
import json
from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from ddim import __version__, schedule
from ddim.errors import InputError
from ddim.files import folder, replacing
from ddim.model import Model
from ddim.unet import UNet, UNetConfig

WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")
UNET, SCHEDULER, INDEX = Path("unet/config.json"), Path("scheduler/scheduler_config.json"), Path("model_index.json")
PREDICTION_TYPES = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


def bundled() -> dict[str, Path]:
    """The models that come with the package: name -> folder."""
    root = Path(str(files("ddim") / "models"))
    return {path.name: path for path in sorted(root.iterdir()) if path.is_dir()} if root.is_dir() else {}


def save(model: Model, to: str | Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write a model folder: weights in `dtype` as safetensors, and what diffusers needs to open it.

    The weights are renamed into place last, so that a folder with weights is whole. Raises InputError.
    """
    from safetensors.torch import save_file

    to = Path(to)
    config = {"_class_name": "UNet2DModel", "_diffusers_version": "0.35.0", **asdict(model.network.config)}
    pipeline = {
        "_class_name": "DDIMPipeline",
        "_diffusers_version": "0.35.0",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
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
    """Sixteen hex digits that name the weights and the noise schedule: the same function, the same fingerprint."""
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
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "timestep_spacing": "trailing",
    }


def beta_config(abar: Tensor) -> dict:
    """The schedule in diffusers' terms: by name where it is one of the named ones, else as a list of β."""
    T = len(abar) - 1
    betas = 1 - abar[1:] / abar[:-1]  # (T,)
    first, last = betas[0].item(), betas[-1].item()
    ends = {"beta_start": round(first, 12), "beta_end": round(last, 12)}
    named = {
        "linear": lambda: schedule.linear(T, **_beta_ends(ends)),
        "scaled_linear": lambda: schedule.scaled_linear(T, **_beta_ends(ends)),
        "squaredcos_cap_v2": lambda: schedule.cosine(T),
    }
    for name, make in named.items():
        if torch.allclose(make(), abar, rtol=1e-10, atol=0):
            return {"beta_schedule": name, **ends, "trained_betas": None}
    return {"beta_schedule": "linear", **ends, "trained_betas": betas.tolist()}


def _beta_ends(config: dict) -> dict[str, float]:
    return {"beta_1": config.get("beta_start", 1e-4), "beta_T": config.get("beta_end", 0.02)}


def abar_of(config: dict) -> Tensor:
    """abar (T+1,) from a diffusers scheduler config. Raises InputError on a schedule that we do not know."""
    T, name = config.get("num_train_timesteps", 1000), config.get("beta_schedule", "linear")
    if (betas := config.get("trained_betas")) is not None:
        return schedule.from_betas(torch.tensor(betas, dtype=torch.float64))
    if name == "linear":
        return schedule.linear(T, **_beta_ends(config))
    if name == "scaled_linear":
        return schedule.scaled_linear(T, **_beta_ends(config))
    if name == "squaredcos_cap_v2":
        return schedule.cosine(T)
    raise InputError(f"beta_schedule {name!r} is not supported: linear, scaled_linear or squaredcos_cap_v2")


def load(source: str | Path, device: str | torch.device | None = None) -> Model:
    """The model that `source` names: a bundled name, a run or model folder, or a Hub id. Raises InputError.

    Weights come as float32, frozen, in evaluation mode; on `device`, by default a GPU where there is one.
    """
    chosen = pick_device(device)
    model = load_folder(_find(str(source)))
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
    """The local folder of a model."""
    path = Path(source).expanduser()
    if path.exists() or path.is_symlink():
        return path
    if source in (models := bundled()):
        return models[source]
    if source.count("/") == 1 and not source.startswith((".", "/", "~")):
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(source, allow_patterns=["*.json", "*.safetensors"]))
        except Exception as error:  # the Hub's own errors, and the network's
            reason = str(error).splitlines()[0][:160]
            raise InputError(f"{source}: no such folder, and not reachable on the Hub either ({reason})") from error
    raise InputError(f"{source}: no such model; name a folder, a Hub id, or one of {', '.join(models) or 'none'}")


def load_folder(path: Path) -> Model:
    """A native folder: the configs, then the weights by memory mapping into a network made without memory."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_dir():
        raise InputError(f"{path}: not a model folder")
    config, scheduler = read_json(path / UNET), read_json(path / SCHEDULER)
    index = read_json(path / INDEX)
    known = {field.name for field in fields(UNetConfig)}
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    with torch.device("meta"):
        network = UNet(UNetConfig(**{name: value for name, value in tuples.items() if name in known}))
    try:
        weights = load_file(path / WEIGHTS)
    except FileNotFoundError:
        raise InputError(f"{path / WEIGHTS}: no such file; is this a model folder?") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path / WEIGHTS}: truncated or not safetensors ({error})") from None
    assign(network, weights, path / WEIGHTS)
    unet = network.config
    predicts = PREDICTION_TYPES[scheduler.get("prediction_type", "epsilon")]
    shape = (unet.in_channels, unet.sample_size, unet.sample_size)
    return Model(network, abar_of(scheduler), shape, predicts, {"source": str(path), **index.get("ddim", {})})


def assign(network: torch.nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Give a network its weights, as float32 and without a second copy, or an InputError naming what differs."""
    wanted = network.state_dict()
    for what, names in {
        "lacks": [k for k in wanted if k not in weights],
        "has unknown": [k for k in weights if k not in wanted],
        "has another shape for": [k for k in wanted if k in weights and wanted[k].shape != weights[k].shape],
    }.items():
        if names:
            raise InputError(f"{source}: {what} {', '.join(names[:3])}{' …' if len(names) > 3 else ''}")
    network.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    network.to(memory_format=torch.channels_last)


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
