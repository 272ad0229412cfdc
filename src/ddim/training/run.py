"""A training run on disk: its folder, its log, and how it is resumed."""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ddim.checkpoints.saving import save
from ddim.diffusion.course import YOUNG
from ddim.diffusion.facts import Facts
from ddim.diffusion.guidance import in_turn
from ddim.diffusion.model import Model
from ddim.diffusion.sampling import generate
from ddim.diffusion.schedule import grid
from ddim.diffusion.walk import Moment
from ddim.errors import InputError
from ddim.images.image_set import ImageSet
from ddim.plots import sheets
from ddim.plots.curves import entry, loss_curve
from ddim.system.files import appending, clean, folder, replacing
from ddim.system.json import read_json, write_json
from ddim.training.loop import State, rate
from ddim.training.presets import PRESETS
from ddim.training.settings import Settings
from ddim.training.tracking import Tracker

SHOWN = 16  # images on a sample sheet
SHOW = 0.5  # seconds between losses on the progress bar
RECENT = 50  # steps that they are the mean of, about


class Run:
    """A run folder: a model folder plus train.json, log.jsonl, loss.png, state/ and samples/."""

    def __init__(
        self,
        settings: Settings,
        preset: str | None,
        out: Path,
        model: Model,
        classes: tuple[str, ...] | None = None,
    ):
        self.settings, self.preset, self.out, self.classes, self.model = settings, preset, out, classes, model
        self.state = State.new(settings.optimiser, self.model.network)
        self.record: dict = {}  # what train.json holds besides: the images' content, changes at resumes
        self.finished = False  # by its steps, or its time
        self.samples = torch.empty(0)  # those drawn last
        self.tracker: Tracker | None = None
        self.losses: list[Tensor] = []  # of the latest steps, still on their device
        self.recent, self.seen = 0.0, 0  # the mean loss lately, and of how many steps
        self.unlogged, self.shown = 0, time.monotonic()  # steps since the last line of the log; when a loss was shown

    @property
    def saved(self) -> Path:
        return self.out / "state" / "last.pt"

    @property
    def logged(self) -> Path:
        return self.out / "log.jsonl"

    def write_settings(self) -> None:
        write_json(self.out / "train.json", {"preset": self.preset, **self.settings.flat(), **self.record})

    def begin(self, content: str) -> None:
        """Make the folder and write down the settings. content: names what the images are, see `content_of`."""
        clean(folder(self.out))  # of a run that was killed before it had settings
        self.record = {"content": content} | ({"classes": self.classes} if self.classes else {})
        if self.settings.network.init:
            self.save()  # a resume needs nothing but the run folder
        self.write_settings()

    def resume(self, content: str, main: bool = True, changes: dict | None = None) -> None:
        """Go back to the last saved state (the start, where none was saved), and take back what was logged after it.

        Every process reads the state; the main one writes. Raises InputError where the images are not those that the
        run was begun with.
        """
        before = read_json(self.out / "train.json")
        self.record = {name: before[name] for name in ("content", "classes", "changes") if name in before}
        if self.record.setdefault("content", content) != content:
            raise InputError(
                f"{self.settings.data.data}: its images are not those that the run in {self.out} was begun with; put "
                "those back, or name where they are by --data, or begin another run by --out"
            )
        if self.saved.exists():
            self.state.restore(self.saved)
        if not main:
            return
        clean(self.out)
        lines = self.logged.read_text(encoding="utf-8", errors="replace").splitlines() if self.logged.exists() else []
        kept = [line for line in lines if _step_of(line) <= self.state.step]
        with replacing(self.logged) as part:
            part.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        if changes:
            self.record["changes"] = [*self.record.get("changes", []), {"step": self.state.step, **changes}]
        self.write_settings()

    def kept(self) -> int:
        """The step of the last saved state, 0 where there is none."""
        return torch.load(self.saved, mmap=True, weights_only=True)["step"] if self.saved.exists() else 0

    def averaged(self) -> Model:
        """The model with the averaged weights, in evaluation mode."""
        o, step, init = self.settings.optimiser, self.state.step, self.settings.network.init
        facts = Facts(
            preset=self.preset,
            data=self.settings.data.data,
            classes=self.classes,
            steps=step,
            images=None if init else step * o.batch_size,  # a network that began with another's weights has seen more
            averaged=True,
            notes={"init": init} if init else {},
        )
        return replace(self.model, network=self.state.average.module.eval(), facts=facts)

    def due(self, what: str) -> bool:
        """Whether something is due after the present step: it is the last one, or one in so many."""
        step = self.state.step
        return (
            self.finished or step == self.settings.optimiser.steps or step % getattr(self.settings.logging, what) == 0
        )

    def sampling(self, steps: int = YOUNG.steps, numbers: range = range(SHOWN)) -> Iterator[Moment]:
        """The walk that makes samples of the averaged weights, as those of a young network are made: of the classes in
        turn, up to 16 of them, or of none.

        numbers: which of the seed; with classes, others than those of a sheet are of all classes in turn.
        """
        times = grid(self.model.abar, min(steps, self.model.T), YOUNG.spacing)
        how = {"eta": YOUNG.eta, "seed": self.settings.optimiser.seed, "solver": YOUNG.solver}
        if self.classes is None:
            return generate(self.averaged(), numbers, times, **how)
        if numbers != range(SHOWN):
            labels = torch.tensor([k % len(self.classes) for k in numbers])
            return generate(self.averaged(), numbers, times, **how, label=labels)
        labels = in_turn(self.model, SHOWN)
        return generate(self.averaged(), range(len(labels)), times, **how, label=labels)

    def draw(self, samples: Tensor, path: Path | None) -> None:
        """Keep what `sampling` ended with, (N, C, H, W), and write it as one image; with classes a row each."""
        self.samples = samples
        if not path:
            return
        plain = self.classes is None
        image = sheets.grid(samples) if plain else sheets.by_class(samples, in_turn(self.model, SHOWN), self.classes)
        sheets.save(image, path)
        if self.tracker:
            self.tracker.sheet(image, self.state.step)

    def save(self) -> None:
        """The state first, then the model: a kill in between loses neither. Then the curve of the losses."""
        self.settle()
        self.state.save(self.saved)
        save(self.averaged(), self.out)
        if self.logged.exists() and '"loss"' in self.logged.read_text(encoding="utf-8"):
            loss_curve(self.logged, self.out / "loss.png")

    def write(self, since: float, stop: bool, main: bool) -> tuple[str | None, float]:
        """After a step: add to the log what is due. since: when the last losses were taken over.

        Returns a note for the progress bar, or None, and since when the next losses count.
        """
        self.unlogged += 1
        now, logging = time.monotonic(), self.due("log_every")
        if not (logging or stop or self.due("save_every") or now - self.shown > SHOW):
            return None, since
        self.settle()
        self.shown = now
        if logging:
            self.log((now - since) / self.unlogged, write=main)
            self.unlogged, since = 0, now
        return f"loss {self.recent:.4f}", since

    def settle(self) -> None:
        """Take over the losses of the latest steps from their device. InputError where one is not finite."""
        pending, step = self.state.pending, self.state.step
        values = torch.stack(self.losses).tolist() if self.losses else []
        self.losses = []
        if bad := [i for i, value in enumerate(values) if not math.isfinite(value)]:
            kept = f"the last saved state is kept in {self.saved}" if self.saved.exists() else "no state was saved yet"
            at = step - len(values) + 1 + bad[0]
            raise InputError(f"the loss became {values[bad[0]]} at step {at}: {kept}; try a smaller --lr")
        pending += values
        for value in values:
            self.seen += 1
            self.recent += (value - self.recent) / min(self.seen, RECENT)

    def log(self, seconds: float, write: bool = True) -> float:
        """Append the mean of the losses since the last line, and return it. seconds: those of one step."""
        step, pending = self.state.step, self.state.pending
        line = {
            "step": step,
            "loss": sum(pending) / len(pending),
            "lr": rate(self.settings.optimiser, step, self.state.course),
            "images_per_second": round(self.settings.optimiser.batch_size / seconds, 1),
        }
        pending.clear()
        if write:
            self.append(line)
        return line["loss"]

    def append(self, line: dict) -> None:
        """Add a line to the log, and send it to the tracker."""
        with appending(self.logged) as file:
            file.write(json.dumps(line) + "\n")
        if self.tracker:
            self.tracker.line(line)


def content_of(images: Tensor | ImageSet, labels: Tensor | None = None) -> str:
    """Sixteen hex digits that name what the images are: their pixels; for a set too large for memory, its files; and
    their labels, where the network takes them."""
    digest = hashlib.sha256(str(tuple(images.shape) if isinstance(images, Tensor) else images.contents()).encode())
    if isinstance(images, Tensor):
        digest.update(images.contiguous().numpy())
    if labels is not None:
        digest.update(labels.numpy())
    return digest.hexdigest()[:16]


def _step_of(line: str) -> float:
    """The step of a line of the log; infinite where the line was cut short by a kill, or holds anything else."""
    found = entry(line)
    return found["step"] if found else math.inf


def stored(out: Path) -> tuple[str | None, Settings]:
    """The preset and the settings that the run in `out` was begun with. Raises InputError."""
    if not (out / "train.json").exists():
        raise InputError(f"{out}: holds no run to resume; leave --resume out to start one")
    kept = read_json(out / "train.json")
    preset = kept.pop("preset", None)
    if preset is not None and (not isinstance(preset, str) or preset not in PRESETS):
        raise InputError(
            f"{out / 'train.json'}: not the settings of a run (its preset is {preset!r}); begin another by --out"
        )
    known = Settings().flat()
    try:
        base = PRESETS[preset] if preset else Settings()
        settings = base.changed(**{name: value for name, value in kept.items() if name in known})
        settings.check()
    except (TypeError, ValueError) as error:
        raise InputError(f"{out / 'train.json'}: not the settings of a run ({error}); begin another by --out") from None
    return preset, settings
