"""Options that commands share, as small groups to be put together, and how a command line becomes them.

A command is a dataclass whose fields are its own options and these groups; on the command line all options are flat.
Nothing here imports torch, so that a wrong option is refused at once.
"""

import contextlib
import io
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Literal, TypeVar

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from ddim.cli.checks import check_empty, check_fall, check_number, check_tuned
from ddim.cli.complaints import complaint_of
from ddim.cli.help import ASKED, laid_out
from ddim.cli.main import VERBS
from ddim.cli.names import SolverName as SolverName
from ddim.cli.names import Spacing, check_spacing
from ddim.errors import LARGEST, InputError

Options = TypeVar("Options")
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Eta = Annotated[float | Literal["hat"], arg(metavar="FLOAT|hat")]
ModelName = Annotated[str, Positional, arg(metavar="MODEL")]
ImageNames = Annotated[tuple[str, ...], Positional, arg(metavar="IMAGE …")]
NEED_IMAGES = {"needed": "no images named: give image files, folders, or a .parquet file"}  # metadata of a field
Times = Annotated[tuple[float, ...] | None, arg(metavar="TIME …")]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and how the network runs."""

    batch_size: int | None = None
    """Images at a time; by default what fits in memory."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps…; by default a GPU where there is one."""
    precision: Precision = "auto"
    """Arithmetic of the network: auto is bf16 where the device has it in hardware, else fp32. int8 is auto with 8-bit
    convolutions, on a CPU: faster for large networks."""


RANGES = {  # of options by name, in any verb; what depends on the model is checked with the model
    **dict.fromkeys(("n", "steps", "reconstructed"), (1, LARGEST)),
    "frames": (2, 10**4),
    "probes": (0, 10**4),
    "batch_size": (1, 10**6),
    **dict.fromkeys(("size", "image_size", "num_head_channels"), (1, 4096)),
    **dict.fromkeys(("T", "time"), (1, 10**6)),
    "times": (0, 10**6),
    **dict.fromkeys(("pick", "numbers", "choices"), (0, LARGEST)),
    "eta": (0, 100),
    "guidance": (0, 100),
    "distance": (0, 1),
    **dict.fromkeys(("seed", "seeds"), (0, 2**64 - 1)),
    **dict.fromkeys(("beta_1", "beta_T", "dropout"), (0, 0.999)),
    "num_heads": (1, 1024),
}
NEEDED = {"model": "MODEL", "source": "SOURCE", "hub_id": "HUB-ID"}  # words that must not be empty
DEVICE = re.compile(r"(cpu|cuda|hip|mps|xpu|hpu|npu|mlu|mtia|xla)(:\d+)?")

EXACT = Machine(precision="fp32")  # for encoding: in less, what is encoded loses its last digits on the way


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The times that are visited, from T (noise) to 0 (the image)."""

    steps: int = 50
    """Intervals of the time grid, S; most solvers evaluate the network once in each."""
    spacing: Spacing = "linear"
    """How the steps are spread over the times from T to 0."""
    times: Times = None
    """The times to visit, from at most T, falling to 0; in the place of --steps and --spacing."""


@dataclass(frozen=True, kw_only=True)
class SampleGrid(Grid):
    """The times that sampling visits, from T (noise) to 0 (the image)."""

    steps: int | None = None
    """Intervals of the time grid, S; most solvers evaluate the network once in each. By default 10; 50 with ddim."""
    spacing: Spacing | None = None
    """How the steps are spread over the times from T to 0; by default as the model's folder says, else power-1.5;
    linear with ddim."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The noise that each step adds."""

    eta: Eta | None = None
    """How much noise each step adds: 0 is DDIM, 1 is DDPM; hat is DDPM with the larger variance, the same as --eta 1
    --variance large. By default 0; 1 for a model that saw less than a million images in its training."""
    variance: Literal["small", "large", "learned"] = "small"
    """Variance of the noise: small is the posterior's. With --eta 1 alone, large is DDPM's upper bound, and learned is
    what a network learned between the two."""
    seed: int = 0
    """Seed of all noise: image k of a seed is the same whatever n and the batch size."""


@dataclass(frozen=True, kw_only=True)
class Clipping:
    """Whether the predicted image is kept within range at each step."""

    clip: Literal["auto", "on", "off"] = "auto"
    """Clip each predicted image to [-range, range]: auto does as the model's folder says, else where there is more
    noise than signal. --clip alone means on, and --no-clip means off, as in the paper."""
    clip_range: float = 1.0
    """The range of --clip on, above 0; images lie in [-1, 1]."""
    clip_keep_eps: bool = False
    """With --clip on, keep the predicted noise as it was, as diffusers does, instead of deriving it again."""

    def value(self):
        """As `ddim.sample(clip=…)` takes it."""
        if self.clip == "on":
            from ddim.diffusion.clipping import Clip

            return Clip(self.clip_range, self.clip_keep_eps)
        return {"auto": None, "off": False}[self.clip]


def parse(options: type[Options], verb: str, args: Sequence[str], default: Options | None = None) -> Options:
    """The options of a verb from the command line. What is wrong with them becomes an InputError of one line.

    `--help` prints what the verb does, its options, and the two examples of its module.
    """
    one_of(args, "--times", "--steps", "--spacing")
    given = {} if default is None else {"default": default}
    output, complaint = io.StringIO(), io.StringIO()
    try:
        helping = {"-h", "--help"} & set(args)
        with wide(ASKED if helping else 200), contextlib.redirect_stdout(output), contextlib.redirect_stderr(complaint):
            found = tyro.cli(options, prog=f"ddim {verb}", args=spelled_out(args), config=(OmitArgPrefixes,), **given)
    except SystemExit as stop:
        if not stop.code:  # --help
            print(laid_out(output.getvalue(), VERBS[verb.split()[0]], sys.modules[options.__module__].EXAMPLES))
            raise
    else:
        check(found, frozenset(word.split("=")[0] for word in args))
        check_empty(args), check_tuned(found, args)
        return found
    raise InputError(f"{complaint_of(complaint.getvalue(), options, args)} (see ddim {verb} --help)")


@contextlib.contextmanager
def wide(columns: int) -> Iterator[None]:
    """A wide terminal for tyro, which breaks its lines in the middle of an option otherwise."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(columns)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before


def spelled_out(args: Sequence[str]) -> list[str]:
    """The arguments with a bare --clip as `--clip on`, and --no-clip as `--clip off`."""
    words: list[str] = []
    for word, following in zip(args, [*args, ""][1:], strict=True):
        if word == "--no-clip":
            words += ["--clip", "off"]
        elif word == "--clip" and following not in ("auto", "on", "off"):
            words += ["--clip", "on"]
        else:
            words.append(word)
    return words


def check(options: object, given: frozenset[str] = frozenset()) -> None:
    """Raise InputError where a value is out of every range that it could have, before torch is loaded.

    given: the words of the command line, which tell an empty list from an absent one.
    """
    for field in fields(options):
        value, name = getattr(options, field.name), f"--{field.name.replace('_', '-')}"
        if is_dataclass(value):
            check(value, given)
        if value == () and name in given and field.name != "attention":  # a network may well have none
            raise InputError(f"{name} needs at least one value")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                check_number(name, number, *RANGES.get(field.name, (-math.inf, math.inf)))
        if value == () and "needed" in field.metadata:
            raise InputError(field.metadata["needed"])
        if value == "" and field.name in NEEDED:
            raise InputError(f"{NEEDED[field.name]} is empty")
        if field.name == "device" and value is not None and not DEVICE.fullmatch(value):
            raise InputError(f"device {value} is not available here: name cpu, cuda, cuda:1 or mps")
        if field.name == "spacing":
            check_spacing(value)
        if field.name == "times" and value is not None:
            check_fall(value)
    if isinstance(options, Clipping) and options.clip_range <= 0:
        raise InputError(f"--clip-range must be above 0; got {options.clip_range:g}")


def one_of(args: Sequence[str], this: str, *others: str) -> None:
    """Raise InputError where an option is given beside one that it replaces."""
    given = {word.split("=")[0] for word in args}
    if this in given and (both := given & set(others)):
        raise InputError(f"{this} replaces {both.pop()}: give one of them")
