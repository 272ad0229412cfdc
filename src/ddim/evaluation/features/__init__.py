"""Feature networks: uint8 images (N, C, H, W) -> features (N, width) float32, in which distances are measured.

`inception` is the network of published FIDs. `digits-small` and `cifar10-small` are classifiers of our own
(tools/train_features.py), shipped so that everything works offline; what they measure compares with nothing published.
"""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddim.errors import InputError
from ddim.images.pixels import to_float
from ddim.system.files import folder
from ddim.system.machine import cache_folder
from ddim.system.messages import say

# pytorch-fid's conversion of the 2015 TensorFlow graph.
URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
# The same network as TorchScript, as clean-fid and StyleGAN use it.
SCRIPT_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
SMALL = ("digits-small", "cifar10-small")


@dataclass(frozen=True)
class Features:
    """A feature network with its name and the first sixteen digits of its file's SHA-256."""

    network: nn.Module
    name: str
    hash: str
    shape: tuple[int, int, int] | None = None  # (C, H, W) that images are resized to; None where it does so by itself

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8, on any device -> (N, width) float32 on the CPU. Raises InputError."""
        if self.shape and tuple(images.shape[1:]) != self.shape:
            images = resized(images, self.shape)
        if not self.shape and images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)  # grey as RGB
        device = next((p.device for p in self.network.parameters()), images.device)
        out = self.network(images.to(device))
        if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != len(images):
            got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(f"features {self.name}: must give (N, width) for N images; it gave {got}")
        return out.float().cpu()


def resized(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Images (N, C, H, W) uint8 in another shape: grey as RGB, RGB as its luma (ITU-R 601); bilinear, antialiased."""
    channels, height, width = shape
    x = images.float()
    if channels == 1 and x.shape[1] == 3:
        x = (x * x.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    x = x.expand(-1, channels, -1, -1)
    if x.shape[2:] != (height, width):
        x = F.interpolate(x, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return x.round().clamp(0, 255).to(torch.uint8)


class Small(nn.Module):
    """A small convolutional classifier; its features are the averages of its last maps."""

    def __init__(self, channels: int, size: int, widths: tuple[int, ...], classes: int = 10):
        super().__init__()
        self.config = {"channels": channels, "size": size, "widths": list(widths), "classes": classes}
        layers: list[nn.Module] = []
        for i, (cin, cout) in enumerate(zip((channels, *widths), widths, strict=False)):
            layers += [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if i < len(widths) - 2 else []
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, widths[-1])."""
        x = to_float(images).contiguous(memory_format=torch.channels_last)
        return self.layers(x).mean(dim=(2, 3))


def save_small(network: Small, path: Path, **info: str) -> None:
    """Write a small network as float16 safetensors, its configuration in the file's metadata."""
    from safetensors.torch import save_file

    kept = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    metadata = {"config": json.dumps(network.config), **info}
    save_file({name: value.half().contiguous() for name, value in kept.items()}, path, metadata=metadata)


def load_small(path: Path) -> Small:
    """A network that `save_small` wrote."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, "pt") as file:
        network = Small(**json.loads(file.metadata()["config"]))
    network.load_state_dict({name: value.float() for name, value in load_file(path).items()}, strict=False)
    return network


def find(name: str, device: str | torch.device = "cpu") -> Features:
    """The feature network that `name` names, ready on `device`. Raises InputError.

    digits-small, cifar10-small; `inception`, downloaded once; or a file: TorchScript (run as the program it is: name
    only a file you trust), Inception weights (.pth, .safetensors), or a small network of tools/train_features.py.
    """
    if name in SMALL:
        path = Path(str(files("ddim") / "evaluation" / "features" / f"{name}.safetensors"))
    elif name == "inception":
        path = download()
    else:
        path = Path(name).expanduser()
        if not path.is_file():
            raise InputError(
                f"{name}: no such feature file; name {', '.join(SMALL)} or inception, or get the Inception weights "
                f"from {URL} and name that file"
            )
    network, shape = _load(path)
    network = network.to(device).eval().requires_grad_(False)
    named = name if name in (*SMALL, "inception") else path.name
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Features(network, "inception" if digest in (SHA256, SCRIPT_SHA256) else named, digest[:16], shape)


def download() -> Path:
    """The Inception weights in the cache folder, fetched when they are first needed, their hash checked."""
    path = folder(cache_folder()) / URL.rsplit("/", 1)[-1]
    if not path.exists():
        say(f"downloading {URL}")
        try:
            torch.hub.download_url_to_file(URL, str(path), hash_prefix=SHA256)
        except (OSError, RuntimeError) as error:  # the network's refusals; a hash that differs
            reason = str(error).splitlines()[0][:120]
            raise InputError(
                f"the Inception weights cannot be downloaded ({reason}): get {URL} elsewhere and name the file by "
                "--features FILE, or use --features cifar10-small or digits-small"
            ) from None
    return path


def _load(path: Path) -> tuple[nn.Module, tuple[int, int, int] | None]:
    """The network in a file and the image shape that it takes. No file but TorchScript can run code."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    from ddim.checkpoints.weights import assign
    from ddim.evaluation.features.inception import Inception

    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                config = (file.metadata() or {}).get("config")
            if config:
                network = load_small(path)
                return network, (network.config["channels"], *(network.config["size"],) * 2)
            weights = load_file(path)
        elif zipfile.is_zipfile(path) and any(n.endswith("/constants.pkl") for n in zipfile.ZipFile(path).namelist()):
            return Script(torch.jit.load(path, map_location="cpu")), None
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the broken file provokes
        reason = str(error).splitlines()[0][:120]
        raise InputError(f"{path}: neither TorchScript nor weights of a feature network ({reason})") from None
    with torch.device("meta"):
        network = Inception()
    trunk = {k: v for k, v in weights.items() if not k.startswith(("fc.", "AuxLogits."))}
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    assign(network, {k: torch.zeros(v.shape, dtype=v.dtype) for k, v in counters.items()} | trunk, path)
    return network, None


class Script(nn.Module):
    """A TorchScript network; the public Inception file is asked for its features rather than its classes."""

    def __init__(self, script: torch.jit.ScriptModule):
        super().__init__()
        self.script = script
        takes = [argument.name for argument in script.forward.schema.arguments]
        self.options = {"return_features": True} if "return_features" in takes else {}

    def forward(self, images: Tensor) -> Tensor:
        return self.script(images, **self.options)
