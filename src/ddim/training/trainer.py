"""`train`: a run from settings, drawn and saved as it goes, stopped and resumed at any moment."""

import time
from contextlib import ExitStack
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
from ddim.plots import sheets
from ddim.system.files import folder, held, writable
from ddim.system.messages import say, warn
from ddim.system.processes import interruptible, watched
from ddim.system.progress import progress as progress_bar
from ddim.training.devices import accelerate, agreed
from ddim.training.fine_tuning import adopted, continued, prepared, source_of
from ddim.training.loop import fit
from ddim.training.new_model import build
from ddim.training.request import Request, request, resuming
from ddim.training.run import Run, content_of
from ddim.training.settings import Settings


@dataclass(frozen=True)
class Trained:
    """Where a training ended."""

    out: Path  # the run folder, which is a model folder
    step: int
    finished: bool  # False where it was stopped before its last step
    main: bool = True  # whether this process speaks for all
    resume: str = ""  # the command that continues it


def train(
    data: str | None = None,
    out: str | Path | None = None,
    preset: str | None = None,
    resume: bool = False,
    settings: Settings | None = None,
    device: str | None = None,
    progress: bool = False,
    **changes: Any,
) -> Trained:
    """Train a model into the run folder `out`, by default runs/PRESET or runs/ and the name of the data, with the
    settings of a preset, or those of fine-tuning where `init` names a model.

    data: the images, as `ddim train --data` names them; by default the preset's.  changes: other settings by name, such
    as `steps=1000, lr=1e-4, init="cifar10"`; `settings` replaces the preset's altogether.
    resume: continue the run in `out` with its own settings; those that a resume may change can be given.
    Ctrl-C and SIGTERM end it after the step, saved. Raises InputError: on settings, images or a disk that will not do,
    and on a loss that is not finite.
    """
    if data is not None and not isinstance(data, str | Path):
        raise InputError(f"data is the name of images, such as a folder's; got {shown(data)}")
    ask = request(data, out, preset, resume, settings, changes)
    out = ask.out
    begun_with = source_of(ask.settings, ask.said) if ask.settings.network.init and not ask.resume else None
    if begun_with:
        ask = replace(ask, settings=adopted(ask.settings, begun_with, ask.said))
    # Behind zero-initialised convolutions the first gradients are denormal, which costs a CPU forty times the time.
    # Threads inherit the setting, so it comes before any is started.
    torch.set_flush_denormal(True)
    settings = ask.settings
    d, o = settings.data, settings.optimiser
    source = find(d.data, d.size, d.channels, d.skip_broken)
    writable(out)
    accelerator = accelerate(settings, device)
    told = labels_for(source) if d.labels else None
    classes = told.classes if told else None
    run = Run(settings, ask.preset, out, model_for(ask, begun_with, classes).to(accelerator.device), classes)
    main = accelerator.is_main_process
    with watched(lambda: lost(run)), ExitStack() as stack:
        images, labels = begin(run, source, told, accelerator, stack, ask.changes if ask.resume else None)
        said = torch.zeros((), device=accelerator.device)  # above 0 once a process has said that it is to stop
        stopping = stack.enter_context(interruptible(accelerator.num_processes == 1))
        bar = progress_bar("training", o.steps, "image", run.state.step, show=progress and main, each=o.batch_size)
        advance, since = stack.enter_context(bar), time.monotonic()
        for loss in fit(settings, run.state, run.model.abar, images, accelerator, labels):
            stop, loss, said = agreed(loss, said, bool(stopping), accelerator)
            run.losses.append(loss)
            note, since = run.write(since, stop, main)
            advance(note=note)
            if main and run.due("sample_every"):
                with torch.no_grad():
                    for moment in run.sampling():
                        pass
                sheets.save(run.sheet(moment.x), folder(out / "samples") / f"step-{run.state.step:07d}.png")
            if main and (stop or run.due("save_every")):
                run.save()
            if stop:
                break
        accelerator.wait_for_everyone()  # a process that ended before would have the others ended by the launcher
    return Trained(out, run.state.step, run.state.step >= o.steps, main, resuming(ask.preset, out))


def model_for(ask: Request, begun_with: Model | None, classes: tuple[str, ...] | None) -> Model:
    """The model to train: a new one, or one that begins with another, or that one as the run folder keeps it."""
    if not ask.settings.network.init:
        return build(ask.settings, classes)
    return prepared(begun_with, ask.settings, classes) if begun_with else continued(ask.out, classes)


def labels_for(source: ImageSet) -> Labels:
    """The labels of a set to train with. Raises InputError where there are none, or one class alone."""
    found = source.labels
    if found is None:
        raise InputError(
            f"{source.name(0)} and the others have no labels: put them into a folder a class, as in data/cat/1.png, "
            "name a table with a column label, or leave out --labels"
        )
    if lacking := np.flatnonzero(found.numbers < 0).tolist():
        raise InputError(f"{source.name(lacking[0])}: has no label, as {len(lacking)} in all; give it one")
    if len(found.classes) < 2:
        raise InputError(f"{source.name(0)} and the others are of one class: leave out --labels")
    return found


def begin(run: Run, source: ImageSet, told: Labels | None, accelerator, stack: ExitStack, changes: dict | None):
    """Decode the images, hold the run folder, and begin the run in it; or, with changes, resume it. Returns the images
    and, of those that are told, their labels (len(images),).

    Only the main process writes.
    """
    with accelerator.local_main_process_first():  # what it decodes, the others of the machine find in the cache
        images, numbers = load_numbered(source)
    labels = None if told is None else torch.from_numpy(told.numbers)[numbers]
    if accelerator.is_main_process:
        stack.enter_context(held(run.out))
        parameters = sum(p.numel() for p in run.model.network.parameters())
        how = f"on {accelerator.device.type} in {'bf16' if accelerator.mixed_precision == 'bf16' else 'fp32'}"
        if source.ignored:
            warn(f"{run.settings.data.data}: not read: {source.passed_over()}")
        classes = f" of {len(told.classes)} classes" if told else ""
        say(f"{len(images):,} images{classes}, {parameters / 1e6:.2f} M parameters, {how}: {run.out}")
    content = content_of(images, labels)
    if changes is not None:
        run.resume(content, accelerator.is_main_process, changes)
    elif accelerator.is_main_process:
        run.begin(content)
    return images, labels


def lost(run: Run) -> str:
    """How to continue where a process was lost."""
    if not (run.out / "train.json").exists():
        return " before the first step; start anew"
    return f" at step {run.state.step}; continue from step {run.kept()} with: {resuming(run.preset, run.out)}"
