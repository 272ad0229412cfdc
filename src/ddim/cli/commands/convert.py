"""ddim convert: a model in another layout."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from ddim.checkpoints.options import Options
from ddim.cli.commands import parse
from ddim.errors import InputError


@dataclass(frozen=True)
class Convert:
    """Write a model in another layout. What the weights do not say is told here once; the folder then knows it."""

    source: Positional[str]
    """A file of weights from other code, a model folder, a bundled name, or a Hub id."""
    folder: Positional[Path]
    """Folder to write."""
    to: Literal["model", "diffusers", "official"] = "model"
    """A model folder, which diffusers opens wherever it has such a network; one that it is sure to open; or ckpt.pth
    and config.yml for the official DDIM code."""
    options: Options = field(default_factory=Options)


def main(args: Sequence[str]) -> None:
    o = parse(Convert, "convert", args)
    from ddim.checkpoints import folders as checkpoint
    from ddim.checkpoints.diffusers_config import beyond_diffusers
    from ddim.checkpoints.layouts import official
    from ddim.networks.unet import UNet

    model = checkpoint.load(o.source, "cpu", **asdict(o.options))
    if taken := [name for name in (checkpoint.WEIGHTS, official.CHECKPOINT) if (o.folder / name).exists()]:
        raise InputError(f"{o.folder / taken[0]}: is there already; name another folder")
    network = model.network
    ours = beyond_diffusers(network.config) if isinstance(network, UNet) else [type(network).__name__]
    if o.to == "diffusers" and ours:
        raise InputError(f"diffusers cannot express {', '.join(ours)} of {o.source}; leave out --to")
    written = official.save(model, o.folder) if o.to == "official" else checkpoint.save(model, o.folder)
    for name in ("layout", "assumed"):
        if name in model.info:
            print(f"{name}: {model.info[name]}")
    if o.to == "official":
        print(f"checkpoint: {written}")
        return
    if ours:
        print(f"only ddim opens it: diffusers cannot express its {', '.join(ours)}")
    print(f"model: {written}\nsample it: ddim sample {written}")
