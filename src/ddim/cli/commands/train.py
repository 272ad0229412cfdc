"""ddim train: a run from a preset."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ddim.cli.options import parse
from ddim.errors import InputError, choose
from ddim.system.messages import say
from ddim.training.presets import FINE_TUNING, PRESETS, REACHED
from ddim.training.settings import Data, Logging, Network, NoiseLevels, Optimiser, Settings

EXAMPLES = (
    "ddim train digits --out runs/first                   # two minutes on a laptop",
    "ddim train --data my-images/ --time 2h               # everything is chosen; the run is runs/my-images",
)
NEEDED = (
    f"train needs a preset first, one of {', '.join(PRESETS)}; or a --time, such as 2h, for which all is chosen; "
    "or --init MODEL, to begin with a model"
)
PRESETS_SHOWN = "\n".join(f"  {name:18}{text}" for name, text in REACHED.items())
USAGE = f"""usage: ddim train --data IMAGES --time 2h [--resume] [any setting]
       ddim train PRESET [--data IMAGES] [--time 2h] [--out RUN] [--resume] [any setting of the preset]
       ddim train --init MODEL --data IMAGES [--time 2h] [--out RUN] [--resume] [any setting]

Train a model on your images. Without a preset, the network and all else are chosen for the time. --init begins with
a trained model. PRESET is one of
{PRESETS_SHOWN}

The settings that most need:
  --data IMAGES     a folder, a .zip, .tar, .parquet or .npy file, a Hub id, …: ddim data --help names all
  --time 2h         end then, with all that belongs to the run; what you leave open is chosen for it
  --labels          teach the network the class of each image, such as its folder's name
  --skip-broken     leave images out that cannot be read
  --out RUN         where to; by default runs/PRESET, or runs/ and the name of the data
  --resume          go on from the last saved state, in the same time; with --time 3h, to three hours in all
ddim train digits --help lists all of them, with the values of the preset digits.

examples:
  {EXAMPLES[0]}
  {EXAMPLES[1]}"""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Any setting of the preset can be changed. Ctrl-C stops the run after its step; --resume continues it."""

    data: Data = Data()
    network: Network = Network()
    noise: NoiseLevels = NoiseLevels()
    optimiser: Optimiser = Optimiser()
    logging: Logging = Logging()
    out: Path | None = None
    """Run folder; by default runs/PRESET, or without a preset runs/ and the name of the data."""
    resume: bool = False
    """Continue from the last saved state, with the settings of the run."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps…; by default a GPU where there is one."""

    def settings(self) -> Settings:
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})


def filled(settings: Settings) -> Train:
    """The options with the values of settings as defaults."""
    return Train(**{field.name: getattr(settings, field.name) for field in fields(Settings)})


def said(args: Sequence[str]) -> set[str]:
    """The names of the settings that a command line gives a value."""
    words = [word.split("=")[0].removeprefix("--").replace("-", "_") for word in args if word.startswith("--")]
    known = Settings().flat()
    return {name for word in words if (name := word if word in known else word.removeprefix("no_")) in known}


def main(args: Sequence[str]) -> None:
    began = time.monotonic()  # what is imported takes its time too
    name = args[0] if args and not args[0].startswith("-") else None
    if not args or (name is None and {"-h", "--help"} & set(args)):
        if not args:
            raise InputError(NEEDED)
        print(USAGE)
        return
    rest, given = args[name is not None :], said(args)
    if name is None and not {"init", "time"} & given and "--resume" not in args:
        parse(Train, "train", rest, filled(Settings()))  # an option that there is not is named first
        raise InputError(NEEDED)
    if name in REACHED and {"-h", "--help"} & set(rest):
        print(f"{name}: {REACHED[name]}\n")
    base = choose("preset", name, PRESETS) if name else FINE_TUNING if "init" in given else Settings()
    options = parse(Train, f"train {name}" if name else "train", rest, filled(base))
    changes = {setting: value for setting, value in options.settings().flat().items() if setting in given}
    options.settings().check()
    from ddim.training.trainer import train

    data, how = changes.pop("data", None), {"device": options.device, "progress": True, "since": began}
    made = train(data, options.out, name, options.resume, **how, **changes)
    if made.main:  # one process speaks for all
        ended = f"model: {made.out}", f"sample it: ddim sample {shlex.quote(str(made.out))}"
        say(*made.report)
        say(*ended if made.finished else (f"stopped, saved in {made.out}; continue with: {made.resume}",))
    if not made.finished:
        raise SystemExit(130)
