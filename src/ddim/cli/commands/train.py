"""ddim train: a run from a preset."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ddim.cli.options import parse
from ddim.errors import InputError, choose
from ddim.system.messages import say
from ddim.training.settings import PRESETS, Data, Logging, Network, NoiseLevels, Optimiser, Settings

EXAMPLES = (
    "ddim train digits --out runs/first                   # two minutes on a laptop",
    "ddim train cifar10 --data my-images/ --ch 32 --steps 20000 --out runs/mine",
)
USAGE = f"""usage: ddim train PRESET [--data …] [--out RUN] [--resume] [any setting of the preset]

PRESET is one of {", ".join(PRESETS)}; ddim train PRESET --help lists its settings.

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
    """Run folder; by default runs/PRESET."""
    resume: bool = False
    """Continue from the last saved state, with the settings of the run."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps…; by default a GPU where there is one."""

    def settings(self) -> Settings:
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})


def filled(settings: Settings) -> Train:
    """The options with the values of settings as defaults."""
    return Train(**{field.name: getattr(settings, field.name) for field in fields(Settings)})


def main(args: Sequence[str]) -> None:
    if not args or args[0].startswith("-"):
        if not {"-h", "--help"} & set(args):
            raise InputError(f"train needs a preset first: one of {', '.join(PRESETS)}")
        print(USAGE)
        return
    name, rest = args[0], args[1:]
    options = parse(Train, f"train {name}", rest, filled(choose("preset", name, PRESETS)))
    out = options.out or Path("runs") / name
    if options.resume:  # the run's own settings are the defaults, so that nothing needs to be said twice
        from ddim.training.run import stored

        begun, before = stored(out)
        if begun != name:
            raise InputError(f"{out}: was begun with preset {begun}, not {name}")
        options = parse(Train, f"train {name}", rest, filled(before))
    options.settings().check()
    from ddim.training.trainer import train

    made = train(None, out, name, options.resume, options.settings(), options.device, progress=True)
    if made.main:  # one process speaks for all
        ended = f"model: {out}", f"sample it: ddim sample {out}"
        say(*ended if made.finished else (f"stopped, saved in {out}; continue with: {made.resume}",))
    if not made.finished:
        raise SystemExit(130)
