"""What scripts on editing share: images that a run never saw, and a classifier that says what an image shows."""

from pathlib import Path

import torch
from torch import Tensor

import ddim
from ddim.evaluation import features
from ddim.evaluation.reference import SMALL
from ddim.images import find, to_float
from ddim.system.json import read_json
from ddim.training.held_out import Divided, divided


def parted(run: str) -> Divided:
    """The images of a run of `ddim train --held-out`, (N, C, H, W) uint8, with their labels (N,): those that it trained
    on, and those that it never did."""
    model, kept = ddim.load(run, "cpu"), read_json(Path(run) / "train.json")
    source = find(kept["data"], model.shape[1], model.shape[0])
    images = torch.stack([source.decode(i) for i in range(len(source))])
    labels = None if source.labels is None else torch.from_numpy(source.labels.numbers)
    return divided(images, labels, kept["held_out"], kept["seed"])


def held_out(run: str) -> tuple[Tensor, Tensor | None]:
    """The images that a run never trained on, and their labels."""
    parts = parted(run)
    return parts.held, parts.held_labels


class Judge:
    """The bundled feature network of a shape: its features, and the class that its head says."""

    def __init__(self, shape: tuple[int, int, int]):
        self.features = features.find(SMALL[shape])

    @torch.no_grad()
    def classes(self, images: Tensor) -> Tensor:
        """The classes (N,) of images (N, C, H, W) uint8."""
        return self.features.network.head(self.features(images)).argmax(1)

    def share(self, images: Tensor, labels: Tensor) -> float:
        """The share of images that are recognised as what they should be."""
        return (self.classes(images) == labels).double().mean().item()


def rms(a: Tensor, b: Tensor) -> float:
    """The root mean square difference of images, uint8, of a pixel on [−1, 1]."""
    return (to_float(a) - to_float(b)).square().mean().sqrt().item()
