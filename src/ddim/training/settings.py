"""The settings of a training run, in groups that check themselves. Every field is an option of `ddim train`. Nothing
here imports torch.
"""

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_type_hints

from ddim.errors import InputError, choose
from ddim.system.json import checked
from ddim.training.watch import seconds_of

ANY = (-math.inf, math.inf)


def setting(default: Any, low: float = ANY[0], high: float = ANY[1], resume: bool = False) -> Any:
    """A field with the range of its values, and whether a resume may change it."""
    return field(default=default, metadata={"range": (low, high), "resume": resume})


def count(default: int, resume: bool = False, high: int = 10**9) -> Any:
    """A whole number from 1 to `high`."""
    return setting(default, 1, high, resume)


def option(name: str) -> str:
    """What the command line calls a setting."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Settings that check themselves."""

    def check(self) -> None:
        """Raise InputError where a setting is out of its range."""
        for f in fields(self):
            value, (low, high) = getattr(self, f.name), f.metadata.get("range", ANY)
            checked({f.name: value}, {f.name: get_type_hints(type(self))[f.name]})
            if (low, high) != ANY and not low <= value <= high:
                within = (
                    f"from {low} to {high}" if high < 10**9 else f"at least {low}" if value < low else f"at most {high}"
                )
                raise InputError(f"{option(f.name)} must be {within}; got {value}")


@dataclass(frozen=True, kw_only=True)
class Data(Group):
    """The images."""

    data: str = setting("", resume=True)
    """Images: `digits` (embedded), a folder, a file such as .zip, .tar, .parquet or .npy, or a Hub id: all that
    `ddim data --help` names."""
    size: int = count(32, high=4096)
    """Height and width in pixels; images are cropped to their centre square and resized to it."""
    channels: int = count(3)
    """1 for greyscale, 3 for RGB."""
    flip: bool = True
    """Flip each image left to right with probability 1/2."""
    workers: int = setting(4, 0, math.inf, resume=True)
    """Processes that decode images, for sets too large to keep in memory."""
    skip_broken: bool = setting(False, resume=True)
    """Leave images out that cannot be read, instead of stopping."""

    held_out: float = setting(0.0, 0, 0.9)
    """Share of the images, from 0 to 0.9, that is only measured by, at most 1,000 images. With --time it is 0.05."""
    labels: bool = False
    """Give the network the class of each image, so that it can be sampled by class: of folders such as data/cat/, of a
    column label, or as a published archive has them."""
    label_drop: float = setting(0.1, 0, 0.999)
    """With --labels: the share of labels, from 0 to 0.999, that are left out, so that the network also learns images of
    no class, which guidance needs."""

    def check(self) -> None:
        super().check()
        if self.channels not in (1, 3):
            raise InputError(f"--channels must be 1 (greyscale) or 3 (RGB); got {self.channels}")


@dataclass(frozen=True, kw_only=True)
class Network(Group):
    """The U-Net."""

    init: str = ""
    """Begin with a model that ddim opens (a bundled name, a folder, a file, a Hub id), and with its network and noise
    levels, instead of random weights."""
    ch: int = count(128, high=4096)
    """Width of the U-Net at full resolution, in channels."""
    mult: tuple[int, ...] = (1, 2, 2, 2)
    """Width multipliers, one for each resolution; each resolution is half the one before."""
    attention: tuple[int, ...] = (16,)
    """Resolutions with self-attention, in pixels of their height."""
    layers: int = count(2, high=64)
    """Residual blocks at each resolution."""
    patch: int = count(1)
    """The network works on squares of so many pixels a side: 2 is four times cheaper than 1, and coarser. Only ddim
    opens a network with patches; diffusers and the official code have none."""
    groups: int = count(32)
    """Groups of each GroupNorm."""
    predict: Literal["eps", "v"] = "eps"
    """What the network answers: eps is the noise, as in the paper; v = √ᾱ ε − √(1−ᾱ) x_0 learns the colours of whole
    images much sooner, which short trainings gain from."""
    dropout: float = setting(0.1, 0, 0.999)
    """Dropout probability within residual blocks, from 0 to 0.999."""

    def check(self) -> None:
        super().check()
        if not self.mult or not all(1 <= factor <= 64 for factor in self.mult):
            raise InputError(f"--mult must be numbers from 1 to 64; got {' '.join(map(str, self.mult)) or 'none'}")


@dataclass(frozen=True, kw_only=True)
class NoiseLevels(Group):
    """The noise that the network learns to remove."""

    T: int = setting(1000, 1, 10**6)
    """Number of noise levels."""
    schedule: Literal["linear", "scaled-linear", "cosine"] = "linear"
    """Shape of the noise schedule."""
    beta_1: float = setting(1e-4, 0, 0.999)
    """First β of the linear schedules, below 1."""
    beta_T: float = setting(0.02, 0, 0.999)
    """Last β of the linear schedules, below 1."""


@dataclass(frozen=True, kw_only=True)
class Optimiser(Group):
    """How the network learns."""

    loss: Literal["simple", "hybrid", "vlb"] = "simple"
    """What is minimised: simple is the squared error of ε. hybrid adds 0.001 of the variational bound, by which the
    network learns the variance of each step; vlb is that bound alone, at times drawn by the history of their losses."""
    steps: int = count(800_000, resume=True)
    """Steps of the optimiser."""
    time: str = setting("", resume=True)
    """End after this time, such as 90s, 45m, 2h or 1h30m, with all that belongs to the run. Settings that you do not
    give are chosen for it; without a preset the network too."""
    batch_size: int = count(128, high=10**6)
    """Images in each step, over all processes."""
    accumulate: int = count(1, resume=True)
    """Parts in which each process computes its share of a step, one after another: less memory, the same step."""
    lr: float = setting(2e-4, 0, math.inf, resume=True)
    """Adam's learning rate."""
    warmup: int = setting(5000, 0, math.inf)
    """Steps over which the learning rate rises from 0."""
    decay: bool = False
    """Let the learning rate fall to 0 along half a cosine by the last step."""
    grad_clip: float = setting(1.0, 0, math.inf)
    """Largest norm of the gradient."""
    ema: float = setting(0.9999, 0, 1)
    """Decay of the average of the weights, from 0 to 1; early on (1 + step)/(10 + step) where that is smaller."""
    seed: int = setting(0, 0, 2**31 - 1)
    """Decides the initial weights, the order of the images, and every random number of every step."""
    precision: Literal["auto", "fp32", "bf16"] = setting("auto", resume=True)
    """Arithmetic of the network: auto is bf16 where the device has it in hardware, else fp32."""
    compile: bool = setting(False, resume=True)
    """Compile the network first, on a GPU: a minute of waiting, then faster steps."""

    def check(self) -> None:
        super().check()
        seconds_of(self.time)


TrackerName = Literal[
    "none", "tensorboard", "wandb", "trackio", "mlflow", "comet_ml", "aim", "clearml", "dvclive", "swanlab"
]  # those of accelerate


@dataclass(frozen=True, kw_only=True)
class Logging(Group):
    """What is written, and how often."""

    log_every: int = count(50, resume=True)
    """Steps between lines of log.jsonl."""
    sample_every: int = count(10_000, resume=True)
    """Steps between sample sheets."""
    save_every: int = count(5000, resume=True)
    """Steps between saved states."""
    sample_minutes: float = setting(30, 0, 10**6, resume=True)
    """Minutes between sample sheets, beside those by steps; the first comes after 2 minutes at most. 0 for none."""
    save_minutes: float = setting(10, 0, 10**6, resume=True)
    """Minutes between saved states, beside those by steps. 0 for none."""
    snapshot_every: int = setting(0, 0, 10**9, resume=True)
    """Steps between models that are kept beside the latest one, in snapshots/ of the run. 0 for none."""
    keep_best: bool = setting(False, resume=True)
    """Keep the model of the smallest held-out loss too, as snapshots/best; needs --held-out or --time."""
    track: TrackerName = setting("none", resume=True)
    """Send losses, measurements and sample sheets to a tracker too. TensorBoard's files go to track/ in the run."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides a training run. The defaults are DDPM's for CIFAR-10, which the paper trained with."""

    data: Data = Data()
    network: Network = Network()
    noise: NoiseLevels = NoiseLevels()
    optimiser: Optimiser = Optimiser()
    logging: Logging = Logging()

    def flat(self) -> dict[str, Any]:
        """Every setting by its name, as train.json keeps them."""
        return {name: value for group in asdict(self).values() for name, value in group.items()}

    def changed(self, **changes: Any) -> "Settings":
        """With other values, by name. Raises InputError for a name that there is not."""
        rest, groups = dict(changes), {}
        for f in fields(Settings):
            group = getattr(self, f.name)
            own = {name: rest.pop(name) for name in [g.name for g in fields(group)] if name in rest}
            groups[f.name] = replace(group, **{k: tuple(v) if isinstance(v, list) else v for k, v in own.items()})
        for name in rest:
            choose("setting", name, self.flat())
        return Settings(**groups)

    def check(self) -> None:
        """Raise InputError where a setting is out of its range."""
        for f in fields(Settings):
            getattr(self, f.name).check()
        if self.logging.keep_best and not (self.data.held_out or self.optimiser.time):
            raise InputError("--keep-best needs --held-out 0.05 or --time: images to judge by")
        if self.network.predict == "v" and self.optimiser.loss != "simple":
            raise InputError(f"--loss {self.optimiser.loss} needs a network that predicts ε; leave out --predict v")
        if not (self.network.init or self.optimiser.time):  # else a model, or the time, decides the network
            self.check_network()

    def check_network(self) -> None:
        """Raise InputError where the numbers of the network do not fit together."""
        n, size = self.network, self.data.size
        halvings = len(n.mult) - 1
        if not n.mult or size % (n.patch * 2**halvings):
            patches = f"cut into patches of {n.patch} and " if n.patch > 1 else ""
            raise InputError(f"size {size} cannot be {patches}halved {halvings} times: change --size or --mult")
        if odd := [n.ch * m for m in n.mult if n.ch * m % n.groups or m < 1]:
            raise InputError(
                f"width {odd[0]} (ch × mult) is not divisible by groups {n.groups}: change --ch or --groups"
            )

    def check_resume(self, now: "Settings") -> dict[str, Any]:
        """What changes from these settings of a run to those of its resume. Raises InputError where it may not."""
        may = {g.name for f in fields(Settings) for g in fields(getattr(self, f.name)) if g.metadata.get("resume")}
        changes = {name: value for name, value in now.flat().items() if value != self.flat()[name]}
        for name in changes.keys() - may:
            raise InputError(
                f"{option(name)} {changes[name]} contradicts the run, which has {self.flat()[name]}; leave it out"
            )
        return changes
