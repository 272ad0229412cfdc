"""ddim convert: a model in another layout."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from ddim.checkpoints.options import Options
from ddim.cli.options import parse
from ddim.system.messages import say

EXAMPLES = (
    "ddim convert ckpt.pth my-model                       # of the official code; any command takes my-model",
    "ddim convert runs/mine out --to official",
)


@dataclass(frozen=True)
class Convert:
    """Say here once what a file of weights does not say; the folder that is written says it from then on."""

    source: Annotated[str, Positional, arg(metavar="SOURCE")]
    """A file of weights from other code, a model folder, a bundled name, or a Hub id."""
    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """Folder to write."""
    to: Literal["model", "diffusers", "official"] = "model"
    """model: a model folder, which diffusers opens where it has such a network. diffusers: the same, or a refusal where
    diffusers could not open it. official: ckpt.pth and config.yml for the official DDIM code."""
    weights: Options = field(default_factory=Options)


def main(args: Sequence[str]) -> None:
    o = parse(Convert, "convert", args)
    from ddim.checkpoints.conversion import convert

    made = convert(o.source, o.folder, o.to, **asdict(o.weights))
    for name, value in (("layout", made.layout), ("assumed", made.assumed)):
        if value:
            say(f"{name}: {value}")
    if o.to == "official":
        say(f"checkpoint: {made.written}")
        return
    if made.ours:
        say(f"only ddim opens it: diffusers cannot express its {', '.join(made.ours)}")
    if made.classes and not made.ours:
        say("diffusers opens its unet/ as UNet2DModel; no pipeline of diffusers tells it classes")
    say(f"model: {made.written}", f"sample it: ddim sample {shlex.quote(str(made.written))}")
