"""ddim studio: everything by hand, in the browser."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.cli.checks import check_number
from ddim.cli.options import Precision, parse
from ddim.errors import InputError

EXAMPLES = (
    "ddim studio                                          # the bundled models, at http://127.0.0.1:7860",
    "ddim studio runs/pets --data my-images/ --port 8000",
)


@dataclass(frozen=True, kw_only=True)
class Studio:
    """Its tabs: sample, interpolate, encode, edit, explore, train, and the paper's figures."""

    models: Annotated[tuple[str, ...], Positional, arg(metavar="MODEL …")] = ("digits", "cifar10", "emoji")
    """Bundled names, run or model folders, or Hub ids."""
    host: str = "127.0.0.1"
    """Address to listen at; by default only this machine can open the page. 0.0.0.0 lets its whole network open it."""
    port: int = 7860
    """Port to listen at, from 0, which is any free one, to 65535."""
    out: Path = Path("studio")
    """Folder to write, the only one: runs, tables, cache."""
    data: str | None = None
    """Real images, as for ddim data; by default those that the model was trained on, where this machine has them."""
    read_only: bool = False
    """Let nobody start or stop a training."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps…; by default a GPU where there is one."""
    precision: Precision = "auto"
    """Arithmetic of sampling, as for ddim sample; encoding is in fp32."""


def main(args: Sequence[str]) -> None:
    o = parse(Studio, "studio", args)
    if find_spec("gradio") is None:
        raise InputError("the studio needs Gradio: pip install 'gradio>=6.20'")
    os.environ.setdefault("DDIM_CACHE", str(o.out.absolute() / "cache"))  # nothing is written elsewhere
    from ddim.studio import Studio as Work
    from ddim.studio import serve

    check_number("--port", o.port, 0, 65535)
    serve(Work(o.models, o.out, o.data, o.read_only, o.device, o.precision), o.host, o.port)
