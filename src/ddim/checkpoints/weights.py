"""Files of weights: read without running what they hold, by memory mapping, and given to a network as they are."""

import pickle
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from ddim.errors import InputError


def read(path: Path):
    """What a safetensors or a `torch.save` file holds: tensors in dicts and lists, memory-mapped. Raises InputError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(action="ignore"):  # what is wrong is told once, below
            # Files of before torch 1.6 are no zip archives, and cannot be mapped.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is this a model folder?") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: truncated or not safetensors ({_line(error)}); copy or download it again") from None
    except pickle.UnpicklingError as error:
        told = str(error)
        reason = "it holds more than tensors, and code is not run" if "Unsupported" in told else _line(error)
        raise InputError(f"{path}: not a file of weights that can be read safely ({reason})") from None
    except Exception as error:  # torch.load raises whatever the broken archive provokes
        reason = _line(error) if " " in str(error) else type(error).__name__
        raise InputError(f"{path}: truncated or not a file of weights ({reason})") from None


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def is_state(value) -> bool:
    """Whether a value is a state dict: names with tensors."""
    return isinstance(value, dict) and bool(value) and all(isinstance(v, Tensor) for v in value.values())


def assign(network: torch.nn.Module, weights: dict[str, Tensor], source: Path, names: dict[str, str] | None = None):
    """Give a network its weights, as float32, or an InputError naming what differs.

    Each tensor is copied once, from the mapped file into the order that the network computes in; so nothing is held
    twice, and the file is let go of.
    `names` says how the file calls a parameter, for the error, where it is not by the network's own name.
    """
    wanted, names = network.state_dict(), names or {}
    for what, keys in {
        "lacks": [k for k in wanted if k not in weights],
        "has unknown": [k for k in weights if k not in wanted],
        "has another shape for": [k for k in wanted if k in weights and wanted[k].shape != weights[k].shape],
    }.items():
        if keys:
            told = [names.get(key, key) for key in keys[:3]]
            raise InputError(f"{source}: {what} {', '.join(told)}{' …' if len(keys) > 3 else ''}")
    copies = {
        name: value.to(
            torch.float32,
            copy=True,
            memory_format=torch.channels_last if value.dim() == 4 else torch.contiguous_format,
        )
        for name, value in weights.items()
    }
    network.load_state_dict(copies, assign=True)
