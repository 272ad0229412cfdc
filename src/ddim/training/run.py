"""A training run on disk: its folder, its log, how it is resumed and how it is stopped."""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from ddim.checkpoints import folders as checkpoint
from ddim.diffusion.model import Model
from ddim.errors import InputError
from ddim.images import batches as data
from ddim.system.files import appending, folder, replacing
from ddim.system.progress import progress
from ddim.training.loop import State, build, fit, rate
from ddim.training.settings import Preset

MAY_CHANGE = {
    "steps",
    "accumulate",
    "precision",
    "compile",
    "log_every",
    "sample_every",
    "save_every",
    "workers",
}  # between run and resume


class Run:
    """A run folder: a model folder plus train.json, log.jsonl, loss.png, state/ and samples/."""

    def __init__(self, preset: Preset, name: str, out: Path, device: torch.device):
        self.preset, self.name, self.out = preset, name, out
        self.model = build(preset).to(device)
        self.state = State.new(preset, self.model.network)

    @property
    def saved(self) -> Path:
        return self.out / "state" / "last.pt"

    @property
    def logged(self) -> Path:
        return self.out / "log.jsonl"

    def begin(self) -> None:
        """Make the folder and write down the settings."""
        folder(self.out)
        checkpoint.write_json(self.out / "train.json", {"preset": self.name, **asdict(self.preset)})

    def resume(self, main: bool = True) -> None:
        """Go back to the last saved state (the start, where none was saved), and take back what was logged after it.

        Every process reads the state; the main one writes.
        """
        if self.saved.exists():
            self.state.restore(self.saved)
        if not main:
            return
        for part in self.out.rglob(".*.part*"):  # what a kill left half-written
            part.unlink()
        lines = self.logged.read_text().splitlines() if self.logged.exists() else []
        kept = [line for line in lines if _step_of(line) <= self.state.step]
        with replacing(self.logged) as part:
            part.write_text("".join(line + "\n" for line in kept))
        checkpoint.write_json(self.out / "train.json", {"preset": self.name, **asdict(self.preset)})

    def kept(self) -> int:
        """The step of the last saved state, 0 where there is none."""
        return torch.load(self.saved, mmap=True, weights_only=True)["step"] if self.saved.exists() else 0

    def averaged(self) -> Model:
        """The model with the averaged weights, in evaluation mode."""
        info = {"preset": self.name, "data": self.preset.data, "steps": self.state.step}
        return replace(self.model, network=self.state.average.module.eval(), info=info)

    def save(self) -> None:
        """The state first, then the model: a kill in between loses neither."""
        self.state.save(self.saved)
        checkpoint.save(self.averaged(), self.out)

    def settle(self, losses: list[Tensor]) -> None:
        """Take over the losses of the latest steps from their device. InputError where one is not finite."""
        pending, step = self.state.pending, self.state.step
        values = torch.stack(losses).tolist() if losses else []
        if bad := [i for i, value in enumerate(values) if not math.isfinite(value)]:
            kept = f"the last saved state is kept in {self.saved}" if self.saved.exists() else "no state was saved yet"
            at = step - len(values) + 1 + bad[0]
            raise InputError(f"the loss became {values[bad[0]]} at step {at}: {kept}; try a smaller --lr")
        pending += values

    def log(self, seconds: float, write: bool = True) -> float:
        """Append the mean of the losses since the last line, and return it. seconds: those of one step."""
        step, pending = self.state.step, self.state.pending
        line = {
            "step": step,
            "loss": sum(pending) / len(pending),
            "lr": rate(self.preset, step),
            "images_per_second": round(self.preset.batch_size / seconds, 1),
        }
        pending.clear()
        if write:
            with appending(self.logged) as file:
                file.write(json.dumps(line) + "\n")
        return line["loss"]


def _step_of(line: str) -> float:
    """The step of a line of the log; infinite where the line was cut short by a kill."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return math.inf


def stored(name: str, out: Path) -> Preset:
    """The settings that the run in `out` was begun with, from preset `name`. Raises InputError."""
    if not (out / "train.json").exists():
        raise InputError(f"{out}: holds no run to resume; leave --resume out to start one")
    settings = checkpoint.read_json(out / "train.json")
    if (begun := settings.pop("preset", None)) != name:
        raise InputError(f"{out}: was begun with preset {begun}, not {name}")
    try:
        return Preset(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
    except TypeError as error:
        raise InputError(f"{out / 'train.json'}: not the settings of a run ({error})") from None


def check(preset: Preset) -> None:
    """Raise InputError where a setting is out of its range."""
    counts = [
        "size",
        "channels",
        "ch",
        "layers",
        "groups",
        "patch",
        "T",
        "steps",
        "batch_size",
        "accumulate",
        "log_every",
        "sample_every",
        "save_every",
    ]
    ranges = dict.fromkeys(counts, (1, math.inf))
    ranges |= {"workers": (0, math.inf), "warmup": (0, math.inf), "seed": (0, 2**31 - 1)}
    ranges |= {"dropout": (0, 0.999), "ema": (0, 1), "beta_1": (0, 0.999), "beta_T": (0, 0.999), "lr": (0, math.inf)}
    for name, (low, high) in ranges.items():
        if not low <= getattr(preset, name) <= high:
            within = f"at least {low}" if high == math.inf else f"from {low} to {high}"
            raise InputError(f"{_option(name)} must be {within}; got {getattr(preset, name)}")
    if preset.channels not in (1, 3):
        raise InputError(f"--channels must be 1 (greyscale) or 3 (RGB); got {preset.channels}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def check_resume(before: Preset, now: Preset) -> None:
    """Raise InputError where the settings given contradict those that the run was begun with."""
    for name, value in asdict(before).items():
        if name not in MAY_CHANGE and (given := getattr(now, name)) != value:
            raise InputError(f"{_option(name)} {given} contradicts the run, which has {value}; leave it out")


@contextmanager
def interruptible(alone: bool) -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM are only noted, in the list that this yields, so that a step is never left half-taken.

    The second one interrupts a process that is alone. A launcher may well repeat what the terminal has sent.
    """
    seen: list[int] = []

    def note(number: int, frame) -> None:
        if seen and alone:
            raise KeyboardInterrupt
        seen.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def agreed(losses: Iterator[Tensor], stopping: list[int], accelerator) -> Iterator[tuple[Tensor, bool]]:
    """The mean of each step's losses over the processes, and whether to stop after it: all at the same step.

    A process that is told to stop says so along with its loss. Whether one did is looked up a step later, when it has
    been computed anyway, so that no step waits for the answer.
    """
    if accelerator.num_processes == 1:
        yield from ((loss, bool(stopping)) for loss in losses)
        return
    told = torch.zeros((), device=accelerator.device)
    for loss in losses:
        stop, said = bool(told > 0), float(bool(stopping))
        loss, told = accelerator.reduce(torch.stack([loss, torch.full_like(loss, said)]), "mean")
        yield loss, stop


def train(run: Run, pictures: Tensor | data.Pictures, accelerator) -> Iterator[str]:
    """Train under a progress bar, logging and saving as the preset says. Yields "saved" after each save, and "sample"
    whenever a sample grid is due, to the process that writes.

    Ctrl-C ends it at the next step, saved. Raises InputError on a loss that is not finite.
    """
    p, state, main, alone = run.preset, run.state, accelerator.is_main_process, accelerator.num_processes == 1
    losses: list[Tensor] = []
    since = time.monotonic()
    bar = progress("training", p.steps, "image", state.step, show=main, each=p.batch_size)
    with interruptible(alone) as stopping, bar as advance:
        steps = fit(p, state, run.model.abar, pictures, accelerator)
        for loss, stop in agreed(steps, stopping, accelerator):
            losses.append(loss)
            last = state.step == p.steps
            saving = last or stop or state.step % p.save_every == 0
            logging = last or state.step % p.log_every == 0
            note = None
            if saving or logging:
                run.settle(losses)
                now = time.monotonic()
                seconds, losses, since = (now - since) / len(losses), [], now
                note = f"loss {run.log(seconds, write=main):.4f}" if logging else None
            advance(note=note)
            if main and (last or state.step % p.sample_every == 0):
                yield "sample"
            if main and saving:
                run.save()
                yield "saved"
            if stop:
                break
        accelerator.wait_for_everyone()  # a process that ended before would have the others ended by the launcher
