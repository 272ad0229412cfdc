"""`train`: a run from settings, drawn and saved as it goes, stopped and resumed at any moment."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddim.diffusion.model import Model
from ddim.errors import InputError, shown
from ddim.images.cache import load_numbered
from ddim.images.image_set import ImageSet
from ddim.images.labels import Labels
from ddim.images.sources import find
from ddim.system.files import held, writable
from ddim.system.messages import say, warn
from ddim.system.processes import watched
from ddim.system.progress import progress as progress_bar
from ddim.training.devices import accelerate, check_shares
from ddim.training.fine_tuning import adopted, continued, prepared, source_of
from ddim.training.held_out import divided
from ddim.training.measuring import report
from ddim.training.new_model import build
from ddim.training.planning import planned
from ddim.training.request import Request, is_begun, leave_unbegun, note_unbegun, request, resuming
from ddim.training.run import Run, content_of
from ddim.training.settings import Settings
from ddim.training.steps import continue_by, steps
from ddim.training.threads import fitted
from ddim.training.tracking import tracked
from ddim.training.watch import Clock, Watch, seconds_of


@dataclass(frozen=True)
class Trained:
    """Where a training ended."""

    out: Path  # the run folder, which is a model folder
    step: int
    finished: bool  # False where it was stopped before its last step
    main: bool = True  # whether this process speaks for all
    resume: str = ""  # the command that continues it
    report: Sequence[str] = ()  # what it has reached, and whether more time would have helped, in lines


def train(
    data: str | None = None,
    out: str | Path | None = None,
    preset: str | None = None,
    resume: bool = False,
    settings: Settings | None = None,
    device: str | None = None,
    progress: bool = False,
    clock: Clock = time.monotonic,
    since: float | None = None,
    **changes: Any,
) -> Trained:
    """Train a model into the run folder `out`, by default runs/PRESET or runs/ and the name of the data, with the
    settings of a preset; with those of fine-tuning where `init` names a model; or with what is chosen for a `time`.

    data: the images, as `ddim train --data` names them; by default the preset's.  changes: other settings by name, such
    as `steps=1000, lr=1e-4, init="cifar10"`; `settings` replaces the preset's altogether.
    clock: the seconds of now, for `time="2h"` and what is due by minutes.  since: when the time began, by default now.
    resume: continue the run in `out` with its own settings; those that a resume may change can be given.
    Ctrl-C and SIGTERM end it after the step, saved. Raises InputError: on settings, images or a disk that will not do.
    """
    if data is not None and not isinstance(data, str | Path):
        raise InputError(f"data is the name of images, such as a folder's; got {shown(data)}")
    watch = Watch(0, 0 if since is None else clock() - since, clock=clock)
    ask = request(data, out, preset, resume, settings, changes)
    watch.budget = seconds_of(ask.settings.optimiser.time)
    ask, begun_with = beginning(ask)
    # Behind zero-initialised convolutions the first gradients are denormal, which costs a CPU forty times the time.
    # Threads inherit the setting, so it comes before any is started.
    torch.set_flush_denormal(True)
    source = images_of(ask.settings)
    known = labels_for(source) if ask.settings.data.labels else None
    writable(ask.out)
    accelerator = accelerate(ask.settings, device, ask.out)
    main, runs = accelerator.is_main_process, []
    with ended_early(ask, runs), ExitStack() as stack:
        hold(ask, stack, main)
        fit_threads = stack.enter_context(fitted(bool(watch.budget) and accelerator.device.type == "cpu", told=main))
        if watch.budget and not ask.resume:
            ask = planned(ask, source, begun_with, accelerator, watch)
            source = images_of(ask.settings)
        check_shares(ask.settings.optimiser, accelerator)
        classes = known.classes if known else None
        model = model_for(ask, begun_with, classes).to(accelerator.device)
        run = Run(ask.settings, ask.preset, ask.out, model, classes)
        runs.append(run)
        images, labels = decoded(run, source, known, accelerator)
        begin(run, ask, content_of(images, labels), accelerator, watch, stack)
        o, show = ask.settings.optimiser, progress and main
        total = max(1, run.state.step) if watch.budget else o.steps  # the first: until there is a rate
        bar = progress_bar("training", total, "image", run.state.step, show, o.batch_size, bool(watch.budget))
        parts = divided(images, labels, ask.settings.data.held_out, o.seed)
        due = stack.enter_context(closing(steps(run, parts, accelerator, watch, stack.enter_context(bar))))
        for walk, path in due:
            with torch.no_grad():  # a sheet is due
                for moment in walk:
                    pass
            run.draw(moment.x, path)
            fit_threads()
    return Trained(ask.out, run.state.step, run.finished, main, resuming(ask.preset, ask.out), report(run))


def beginning(ask: Request) -> tuple[Request, Model | None]:
    """The request with the settings of the model that the run begins with, and that model."""
    if ask.resume or not ask.settings.network.init:
        return ask, None
    source = source_of(ask.settings, ask.said)
    return replace(ask, settings=adopted(ask.settings, source, ask.said)), source


def model_for(ask: Request, begun_with: Model | None, classes: tuple[str, ...] | None) -> Model:
    """The model to train: a new one, or one that begins with another, or that one as the run folder keeps it."""
    if not ask.settings.network.init:
        return build(ask.settings, classes)
    return prepared(begun_with, ask.settings, classes) if begun_with else continued(ask.out, classes)


def images_of(settings: Settings) -> ImageSet:
    d = settings.data
    return find(d.data, d.size, d.channels, d.skip_broken)


def labels_for(source: ImageSet) -> Labels:
    """The labels of a set to train with. Raises InputError where there are none, or one class alone."""
    found = source.labels
    if found is None:
        raise InputError(
            f"{source.name(0)} and the others have no labels: put them into a folder a class, as in data/cat/1.png, "
            "name a table with a column label, or leave out --labels"
        )
    if lacking := np.flatnonzero(found.numbers < 0).tolist():
        raise InputError(
            f"{source.name(lacking[0])}: has no label (of all images {len(lacking)} have none): give each one, or "
            "leave out --labels"
        )
    if len(found.classes) < 2:
        raise InputError(f"{source.name(0)} and the others are of one class: leave out --labels")
    return found


def hold(ask: Request, stack: ExitStack, main: bool) -> None:
    """Hold the run folder, and note in it what is asked for until a run is begun there, which may take a while."""
    if not main:
        return
    made = [path for path in (ask.out, *ask.out.parents) if not path.exists()]
    stack.enter_context(held(ask.out))
    if not ask.resume:
        note_unbegun(ask)
        stack.push(lambda kind, *error: leave_unbegun(ask, made, kind))


def decoded(run: Run, source: ImageSet, known: Labels | None, accelerator) -> tuple[Any, torch.Tensor | None]:
    """The images of a run and, where classes are trained, their labels (len(images),). Says what is trained."""
    with accelerator.local_main_process_first():  # what it decodes, the others of the machine find in the cache
        images, numbers = load_numbered(source)
    labels = None if known is None else torch.from_numpy(known.numbers)[numbers]
    if accelerator.is_main_process:
        parameters = sum(p.numel() for p in run.model.network.parameters())
        how = f"on {accelerator.device.type} in {'bf16' if accelerator.mixed_precision == 'bf16' else 'fp32'}"
        if source.ignored:
            warn(f"{run.settings.data.data}: not read: {source.passed_over()}")
        classes = f" of {len(known.classes)} classes" if known else ""
        n = f"{len(images):,} image{'s' if len(images) > 1 else ''}"
        say(f"{n}{classes}, {parameters / 1e6:.2f} M parameters, {how}: {run.out}")
    return images, labels


def begin(run: Run, ask: Request, content: str, accelerator, watch: Watch, stack: ExitStack) -> None:
    """Begin the run in its folder, or resume it, with its tracker. content: names what the images are."""
    main = accelerator.is_main_process
    if ask.resume:
        run.resume(content, main, ask.changes)
        continue_by(watch, run, ask.changes, main)
    run.tracker = stack.enter_context(tracked(ask.settings, accelerator, ask.out, run.state.step))
    if main and not ask.resume:  # not before: a tracker that cannot be started leaves no run
        run.begin(content)


@contextmanager
def ended_early(ask: Request, runs: list[Run]) -> Iterator[None]:
    """Says how to continue where a process was lost, and after a Ctrl-C that does not wait for the end of a step."""
    with watched(lambda: lost(ask, runs)):
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(lost(ask, runs) if is_begun(ask.out) else "") from None


def lost(ask: Request, runs: list[Run]) -> str:
    """How to continue where a process was lost. runs: the run, once it has begun."""
    if not (ask.out / "train.json").exists():
        return " before the first step; start anew"
    if not runs:
        return f"; continue with: {resuming(ask.preset, ask.out)}"
    return f" at step {runs[0].state.step}; continue from step {runs[0].kept()} with: {resuming(ask.preset, ask.out)}"
