"""Files of weights: read without running what they hold, by memory mapping, and given to a network as they are."""

import pickle
import sys
import warnings
import zipfile
from pathlib import Path

import torch

from ddim.checkpoints.states import State, unwrap
from ddim.errors import InputError
from ddim.system.json import read_json

STEM = "diffusion_pytorch_model"  # of the files of weights in a diffusers folder


def read(path: Path):
    """What a safetensors or a `torch.save` file holds: tensors in dicts and lists, memory-mapped. Raises InputError."""
    return read_with_metadata(path)[0]


def read_with_metadata(path: Path) -> tuple[object, dict[str, str]]:
    """The same, and the texts that a safetensors file keeps beside its tensors: both of one and the same file, also
    where another takes its place meanwhile. Raises InputError.
    """
    from safetensors import SafetensorError, safe_open

    if path.exists() and not path.is_file():
        raise InputError(f"{path}: not a file of weights")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        with warnings.catch_warnings(action="ignore"):  # what is wrong is said once, below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mappable(path)), {}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is this a model folder?") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: truncated or not safetensors ({_line(error)}); copy or download it again") from None
    except pickle.UnpicklingError as error:
        message = str(error)
        reason = "it holds more than tensors, and code is not run" if "Unsupported" in message else _line(error)
        raise InputError(f"{path}: not a file of weights that can be read safely ({reason})") from None
    except Exception as error:  # torch.load raises whatever the broken archive provokes
        reason = _line(error) if " " in str(error) else type(error).__name__
        raise InputError(f"{path}: truncated or not a file of weights ({reason})") from None


def mappable(path: Path) -> bool:
    """Whether the tensors of a `torch.save` file lie in it as in memory: stored plainly, in this machine's byte order.

    Files of before torch 1.6 are no zip archives, and cannot be mapped.
    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        orders = [archive.read(e) for e in entries if e.filename.endswith("/byteorder") and e.file_size < 16]
        plain = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    return plain and all(order.strip() == sys.byteorder.encode() for order in orders)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def read_folder(folder: Path) -> tuple[State, Path, dict[str, str]]:
    """The weights in a folder of diffusers: its state dict, the file or index that they come from, its metadata.

    One file or shards with their index, as safetensors or pickled, in full or in a variant ("fp16"): the first that is
    there, in this order. Raises InputError.
    """
    for suffix in ("safetensors", "bin"):
        whole = [folder / f"{STEM}.{suffix}", *sorted(folder.glob(f"{STEM}.*.{suffix}"))]
        files = [path for path in whole if path.exists() and "-of-" not in path.name]
        indices = sorted(folder.glob(f"{STEM}.{suffix}.index*.json"))  # the one of no variant first
        if files and (files[0] == whole[0] or not indices):
            content, metadata = read_with_metadata(files[0])
            return unwrap(content, False, files[0])[1], files[0], metadata
        if indices:
            return _shards(indices[0]), indices[0], {}
    raise InputError(f"{folder / f'{STEM}.safetensors'}: no such file; is this a model folder?")


def _shards(index: Path) -> State:
    """The state dict that an index tells the files of."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise InputError(f"{index}: weight_map must be an object of file names")
    state: State = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise InputError(f"{index}: {name}: weights lie beside their index")
        _, held = unwrap(read(index.with_name(name)), False, index.with_name(name))
        if lacks := [key for key, place in places.items() if place == name and key not in held]:
            raise InputError(f"{index.with_name(name)}: lacks {', '.join(lacks[:3])}")
        state |= {key: value for key, value in held.items() if places.get(key) == name}
    return state


def refuse_unusual(weights: State, source: Path, names: dict[str, str]) -> None:
    """Raise InputError where a value is no plain tensor of finite floating-point numbers."""
    for key, value in weights.items():
        name = names.get(key, key)
        kinds = {
            "sparse": value.layout is not torch.strided,
            "quantised": value.is_quantized,
            "without data": value.is_meta,
            f"of {str(value.dtype).removeprefix('torch.')}": not value.is_floating_point(),
        }
        if what := [kind for kind, is_so in kinds.items() if is_so]:
            raise InputError(f"{source}: {name} is {what[0]}; weights are plain floating-point numbers")


def assign(network: torch.nn.Module, weights: State, source: Path, names: dict[str, str] | None = None):
    """Give a network its weights, as float32, or an InputError naming what differs, or is not finite.

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
            first = [str(names.get(key, key)) for key in keys[:3]]
            raise InputError(f"{source}: {what} {', '.join(first)}{' …' if len(keys) > 3 else ''}")
    refuse_unusual(weights, source, names)
    copies = {
        name: value.to(
            torch.float32,
            copy=True,
            memory_format=torch.channels_last if value.dim() == 4 else torch.contiguous_format,
        )
        for name, value in weights.items()
    }
    for name, value in copies.items():
        if value.numel() and not torch.stack(value.aminmax()).isfinite().all():
            raise InputError(f"{source}: {names.get(name, name)} holds NaN or infinite weights")
    network.load_state_dict(copies, assign=True)
