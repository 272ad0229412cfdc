"""A model in another layout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddim.checkpoints.diffusers_config import beyond_diffusers
from ddim.checkpoints.layouts import official
from ddim.checkpoints.loading import load
from ddim.checkpoints.saving import WEIGHTS, save
from ddim.errors import InputError
from ddim.networks.unet import UNet


@dataclass(frozen=True)
class Converted:
    """What `convert` wrote, and what it found."""

    written: Path
    layout: str | None  # of the file that it came from
    assumed: str  # what the file did not say
    ours: list[str]  # what only ddim can express
    classes: int  # how many it knows


def convert(source: str, to: str | Path, layout: Literal["model", "diffusers", "official"] = "model", **options):
    """Load a model and write it into the folder `to`, as a model folder, as one that diffusers is sure to open, or as
    the official code reads it. options: what a bare file of weights does not say, see `ddim.load`.

    Returns a `Converted`. Raises InputError where the layout cannot hold the model, or the folder holds one.
    """
    model, to = load(source, "cpu", **options), Path(to)
    if taken := [name for name in (WEIGHTS, official.CHECKPOINT) if (to / name).exists()]:
        raise InputError(f"{to / taken[0]}: is there already; name another folder")
    network = model.network
    ours = beyond_diffusers(network.config) if isinstance(network, UNet) else [type(network).__name__]
    if layout == "diffusers" and ours:
        raise InputError(f"diffusers cannot express {', '.join(ours)} of {source}; leave out --to")
    written = official.save(model, to) if layout == "official" else save(model, to)
    assumed = ", ".join(f"{name} {value}" for name, value in model.facts.assumed.items())
    return Converted(written, model.facts.layout, assumed, ours, len(model.classes))
