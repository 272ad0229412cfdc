"""Feature networks: uint8 pictures (N, C, H, W) -> features (N, width) float32, in which distances are measured.

`inception` is the network of published FIDs. `digits-small` and `cifar10-small` are classifiers of our own
(bench/train_features.py), shipped so that everything works offline; what they measure compares with nothing published.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn

from ddim.data import cache_folder, to_float
from ddim.errors import InputError
from ddim.files import folder

# pytorch-fid's conversion of the 2015 TensorFlow graph; the eight digits begin the SHA-256 of the file.
URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d"
SMALL = ("digits-small", "cifar10-small")


@dataclass(frozen=True)
class Features:
    """A feature network with its name and the first sixteen digits of its file's SHA-256."""

    network: nn.Module
    name: str
    hash: str
    shape: tuple[int, int, int] | None = None  # (C, H, W) that it takes; None where it resizes by itself

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """(N, C, H, W) uint8, on any device -> (N, width) float32 on the CPU. Raises InputError."""
        if self.shape and tuple(pictures.shape[1:]) != self.shape:
            takes, got = ("×".join(map(str, shape)) for shape in (self.shape, pictures.shape[1:]))
            raise InputError(f"features {self.name}: takes pictures of {takes}, not {got}; name others by --features")
        if not self.shape and pictures.shape[1] == 1:
            pictures = pictures.expand(-1, 3, -1, -1)  # grey as RGB
        device = next((p.device for p in self.network.parameters()), pictures.device)
        out = self.network(pictures.to(device))
        if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != len(pictures):
            got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(f"features {self.name}: must give (N, width) for N pictures; it gave {got}")
        return out.float().cpu()


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

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, widths[-1])."""
        x = to_float(pictures).contiguous(memory_format=torch.channels_last)
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

    with safe_open(path, "pt") as file:
        network = Small(**json.loads(file.metadata()["config"]))
        network.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()}, strict=False)
    return network
