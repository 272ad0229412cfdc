"""The verbs of the command line, a module each: its options as a dataclass, and `main(args)`."""

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from ddim.errors import InputError

Options = TypeVar("Options")
Spacing = Literal["linear", "quadratic", "official-linear", "official-quadratic"]
Eta = Annotated[float | Literal["hat"], arg(metavar="FLOAT|hat")]
ModelName = Annotated[str, Positional, arg(metavar="MODEL")]
PictureNames = Annotated[tuple[str, ...], Positional, arg(metavar="PICTURE …")]
Times = Annotated[tuple[int, ...] | None, arg(metavar="INT …")]

Method = Literal["explicit", "implicit", "exact"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]


@dataclass(frozen=True, kw_only=True)
class OnModel:
    """The options of every verb that uses a model."""

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    batch_size: int | None = None
    """Pictures at a time; by default what fits in memory."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps…; by default a GPU where there is one."""
    precision: Precision = "auto"
    """Arithmetic of the network: auto is bf16 where the device multiplies it by itself, else fp32. int8 is auto
    with 8-bit convolutions, on a CPU: faster for large networks."""


@dataclass(frozen=True, kw_only=True)
class OnGrid(OnModel):
    """The options of every verb that walks one time grid."""

    steps: int = 50
    """Network evaluations a picture, S."""
    spacing: Spacing = "linear"
    """How the steps are spread over the noise levels."""
    times: Times = None
    """The noise levels to visit, falling, the last 0; replaces steps and spacing."""


def opened(o: OnModel, device=None, tell: bool = True, compile: bool = False):
    """The model of the options, on their device and in their precision, which is told, as fast as the device allows."""
    from ddim.checkpoints import folders as checkpoint

    model = ready(checkpoint.load(o.model, device or o.device), o.precision, compile)
    if tell:
        print(f"{o.model}: on {model.device.type} in {model.info['precision']}", flush=True)
    return model


def ready(model, precision: Precision, compile: bool = False):
    """A model for sampling and nothing else, its network in a precision and compiled, or packed on a CPU, in place."""
    from dataclasses import replace

    from ddim.checkpoints import folders as checkpoint
    from ddim.diffusion.model import PRECISIONS
    from ddim.networks.acceleration.convolutions import compiled, folded, packed
    from ddim.networks.acceleration.int8 import quantised
    from ddim.system.machine import fast_products, native_int8, precision_of, return_memory

    fast_products()
    name, kind = precision_of(precision, model.device.type), model.device.type
    if name == "int8" and not (kind == "cpu" and native_int8()):
        raise InputError("precision int8 needs a CPU that multiplies bytes (VNNI); choose auto")
    # What a model is called by is computed from its weights before they are rounded.
    info = {**model.info, "fingerprint": checkpoint.fingerprint(model), "precision": name}
    if kind == "cpu":
        folded(model.network)
    model.to(dtype=PRECISIONS[precision_of("auto", kind) if name == "int8" else name])
    if name == "int8":
        quantised(model)
    if compile:
        return replace(model, info=info, network=compiled(model.network))
    if kind == "cpu" and name in ("bf16", "int8"):  # float32 gains little, and its peak of memory grows by a quarter
        packed(model.network)
        return_memory()
    return replace(model, info=info)


class Counted:
    """A model that tells `advance` whenever it is asked at another time than before: a progress bar for any walk."""

    def __init__(self, model, advance: Callable[[], None]):
        self.model, self.abar, self.advance, self.last = model, model.abar, advance, None

    def __call__(self, x, t: int):
        prediction = self.model(x, t)
        if t != self.last:
            self.advance()
        self.last = t
        return prediction


def data_grid(model, o: OnGrid) -> list[int]:
    """The grid that the options ask for. Between pictures and latents it has to end at 0, where the pictures are."""
    from ddim.diffusion.sampling import grid

    times = grid(model, o.steps, o.spacing, o.times)
    if times[-1] != 0:
        raise InputError(f"times must end at 0, where the pictures are; got {times[-1]}")
    return times


def batches_of(model, n: int, batch_size: int | None) -> list[range]:
    """range(n) in batches of `batch_size`, by default of what fits in memory."""
    from ddim.diffusion.sampling import chunks, default_batch_size

    return list(chunks(n, default_batch_size(model) if batch_size is None else batch_size))


def parse(options: type[Options], verb: str, args: Sequence[str], default: Options | None = None) -> Options:
    """The options of a verb from the command line. What is wrong with them becomes an InputError of one line."""
    one_of(args, "--times", "--steps", "--spacing")
    given = {} if default is None else {"default": default}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(options, prog=f"ddim {verb}", args=list(args), config=(OmitArgPrefixes,), **given)
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


def one_of(args: Sequence[str], this: str, *others: str) -> None:
    """Raise InputError where an option is given beside one that it replaces."""
    given = {word.split("=")[0] for word in args}
    if this in given and (both := given & set(others)):
        raise InputError(f"{this} replaces {both.pop()}: give one of them")


def to_latents(model, images, times: Sequence[int], method: Method):
    """Encode a batch by one of the methods: its latents as a tuple of tensors (exact has two), and the largest
    residual of the implicit steps, 0 for the other methods."""
    from ddim.diffusion.inversion import Implicit, encode_pair
    from ddim.diffusion.latents import encode

    if method == "exact":
        return encode_pair(model, images, times=times), 0.0
    if method == "explicit":
        return (encode(model, images, times=times),), 0.0
    inverse = Implicit(model, times)
    z = encode(inverse, images, times=times)
    return (z,), inverse.residual.max().item()


def to_pictures(model, latents, times: Sequence[int]):
    """Decode a batch of what `to_latents` made on the same grid."""
    from ddim.diffusion.inversion import decode_pair
    from ddim.diffusion.latents import decode

    return decode_pair(model, latents, times=times) if len(latents) == 2 else decode(model, latents[0], times=times)
