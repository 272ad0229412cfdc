"""Options that commands share, as small groups to be put together, and how a command line becomes them.

A command is a dataclass whose fields are its own options and these groups; on the command line all options are flat.
Nothing here imports torch, so that a wrong option is refused at once.
"""

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from ddim.errors import InputError

Options = TypeVar("Options")
Spacing = Literal["linear", "quadratic", "official-linear", "official-quadratic"]
SolverName = Literal["ddim", "heun", "unipc", "implicit", "exact"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Eta = Annotated[float | Literal["hat"], arg(metavar="FLOAT|hat")]
ModelName = Annotated[str, Positional, arg(metavar="MODEL")]
ImageNames = Annotated[tuple[str, ...], Positional, arg(metavar="IMAGE …")]
Times = Annotated[tuple[float, ...] | None, arg(metavar="TIME …")]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and how the network runs."""

    batch_size: int | None = None
    """Images at a time; by default what fits in memory."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps…; by default a GPU where there is one."""
    precision: Precision = "auto"
    """Arithmetic of the network: auto is bf16 where the device multiplies it by itself, else fp32. int8 is auto
    with 8-bit convolutions, on a CPU: faster for large networks."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The noise levels that are visited."""

    steps: int = 50
    """Intervals of the time grid, S; most solvers evaluate the network once in each."""
    spacing: Spacing = "linear"
    """How the steps are spread over the noise levels."""
    times: Times = None
    """The noise levels to visit, falling, the last 0; replaces --steps and --spacing."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise in each step."""

    eta: Eta = 0.0
    """Noise in each step: 0 is DDIM, 1 is DDPM; hat is DDPM with the larger variance, the same as --eta 1 --variance
    large."""
    variance: Literal["small", "large"] = "small"
    """Variance of the noise: small is the posterior's, large is DDPM's upper bound (for --eta 1)."""
    seed: int = 0
    """Seed of all noise: image k of a seed is the same whatever n and the batch size."""


@dataclass(frozen=True, kw_only=True)
class Clipping:
    """Clamping of the predicted picture on the way."""

    clip: Literal["auto", "on", "off"] = "auto"
    """Clamp each predicted image to [-range, range]: auto does as the model's folder says. A bare --clip means on, and
    --no-clip means off."""
    clip_range: float = 1.0
    """Half-width of the range for --clip on."""
    clip_keep_eps: bool = False
    """With --clip on, keep the predicted noise as it was, as diffusers does, instead of deriving it again."""

    def value(self):
        """As `ddim.sample(clip=…)` takes it."""
        if self.clip == "on":
            from ddim.diffusion.clipping import Clip

            return Clip(self.clip_range, self.clip_keep_eps)
        return {"auto": None, "off": False}[self.clip]


def parse(options: type[Options], verb: str, args: Sequence[str], default: Options | None = None) -> Options:
    """The options of a verb from the command line. What is wrong with them becomes an InputError of one line."""
    one_of(args, "--times", "--steps", "--spacing")
    args = [
        word for given in args for word in {"--clip": bare(args), "--no-clip": ["--clip", "off"]}.get(given, [given])
    ]
    given = {} if default is None else {"default": default}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(options, prog=f"ddim {verb}", args=args, config=(OmitArgPrefixes,), **given)
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
    # tyro draws a box; its first lines, up to the rule, say what is wrong.
    text = re.sub(r"\x1b\[[0-9;]*m", "", complaint.getvalue())
    lines = [line.strip("│ ").strip() for line in text.splitlines() if line.startswith("│")]
    told = next((i for i, line in enumerate(lines) if line.startswith("──")), len(lines))
    message = " ".join(lines[:told])
    if unread := re.search(r"Error parsing (--[\w-]+).*? from (\[[^]]*\])", message):
        message = f"{unread[1]}: cannot be read from {unread[2]}"
    raise InputError(f"{message} (see ddim {verb} --help)")


def bare(args: Sequence[str]) -> list[str]:
    """`--clip` alone, or before its value."""
    following = args[args.index("--clip") + 1 :][:1]
    return ["--clip"] if following and following[0] in ("auto", "on", "off") else ["--clip", "on"]


def one_of(args: Sequence[str], this: str, *others: str) -> None:
    """Raise InputError where an option is given beside one that it replaces."""
    given = {word.split("=")[0] for word in args}
    if this in given and (both := given & set(others)):
        raise InputError(f"{this} replaces {both.pop()}: give one of them")
