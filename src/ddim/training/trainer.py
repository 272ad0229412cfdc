"""`train`: a run from settings, drawn and saved as it goes, stopped and resumed at any moment."""

import os
import shlex
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddim.errors import InputError, choose, shown
from ddim.images.cache import load_numbered
from ddim.images.image_set import ImageSet
from ddim.images.labels import Labels
from ddim.images.sources import absolute, find
from ddim.plots import sheets
from ddim.system.files import folder, held, writable
from ddim.system.machine import fast_products, pick_device, precision_of
from ddim.system.messages import say, warn
from ddim.system.processes import interruptible, watched
from ddim.system.progress import progress as progress_bar
from ddim.training.loop import fit
from ddim.training.run import Run, content_of, stored
from ddim.training.settings import PRESETS, Settings


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
    preset: str = "cifar10",
    resume: bool = False,
    settings: Settings | None = None,
    device: str | None = None,
    progress: bool = False,
    **changes: Any,
) -> Trained:
    """Train a model into the run folder `out`, by default runs/PRESET, with the settings of a preset.

    data: the images, as `ddim train --data` names them; by default the preset's.  changes: other settings by name, such
    as `steps=1000, lr=1e-4`; `settings` replaces the preset's altogether.
    resume: continue the run in `out` with its own settings; those that a resume may change can be given.
    Ctrl-C and SIGTERM end it after the step, saved. Raises InputError: on settings, images or a disk that will not do,
    and on a loss that is not finite.
    """
    if data is not None and not isinstance(data, str | Path):
        raise InputError(f"data is the name of images, such as a folder's; got {shown(data)}")
    choose("preset", preset, PRESETS)
    out = Path(out or Path("runs") / preset)
    preset, settings, changes = chosen(out, preset, resume, settings, changes | ({"data": str(data)} if data else {}))
    # Behind zero-initialised convolutions the first gradients are denormal, which costs a CPU forty times the time.
    # Threads inherit the setting, so it comes before any is started.
    torch.set_flush_denormal(True)
    d, o = settings.data, settings.optimiser
    source = find(d.data, d.size, d.channels, d.skip_broken)
    writable(out)
    accelerator = accelerate(settings, device)
    told = labels_for(source) if d.labels else None
    run = Run(settings, preset, out, accelerator.device, told.classes if told else None)
    main = accelerator.is_main_process
    with watched(lambda: lost(run)), ExitStack() as stack:
        images, labels = begin(run, source, told, accelerator, stack, changes if resume else None)
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
    return Trained(out, run.state.step, run.state.step >= o.steps, main, resuming(preset, out))


def chosen(
    out: Path, preset: str, resume: bool, settings: Settings | None, changes: dict[str, Any]
) -> tuple[str, Settings, dict[str, Any]]:
    """The preset, the settings, and what a resume changes of those of the run. Raises InputError."""
    if resume:
        preset, before = stored(out)
        settings, before = located((settings or before).changed(**changes)), located(before)
        changes = before.check_resume(settings)
    elif (out / "train.json").exists():
        raise InputError(f"{out}: already holds a run; pass --resume to continue it, or another --out")
    else:
        settings = located((settings or choose("preset", preset, PRESETS)).changed(**changes))
    settings.check()
    return preset, settings, changes


def located(settings: Settings) -> Settings:
    """Settings that name their images from every directory."""
    return settings.changed(data=absolute(settings.data.data))


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


def resuming(preset: str, out: Path) -> str:
    """The command that continues a run, from any directory."""
    return f"ddim train {preset} --out {shlex.quote(str(out.resolve()))} --resume"


def lost(run: Run) -> str:
    """How to continue where a process was lost."""
    if not (run.out / "train.json").exists():
        return " before the first step; start anew"
    return f" at step {run.state.step}; continue from step {run.kept()} with: {resuming(run.preset, run.out)}"


def agreed(loss: Tensor, said: Tensor, stopping: bool, accelerator) -> tuple[bool, Tensor, Tensor]:
    """Whether to stop after this step, all processes at the same one, the mean of their losses, and who has said so.

    A process that is told to stop says so along with its loss. Whether one did is looked up a step later, when it has
    been computed anyway, so that no step waits for the answer.
    """
    if accelerator.num_processes == 1:
        return stopping, loss, said
    stop = bool(said > 0)
    loss, said = accelerator.reduce(torch.stack([loss, torch.full_like(loss, float(stopping))]), "mean")
    return stop, loss, said


def accelerate(settings: Settings, device: str | None):
    """The accelerator: device, precision and processes. Raises InputError where they cannot be had."""
    from accelerate import Accelerator, InitProcessGroupKwargs

    o, kind = settings.optimiser, pick_device(device).type
    if device and os.environ.get("WORLD_SIZE", "1") == "1":
        os.environ["ACCELERATE_TORCH_DEVICE"] = device  # accelerate has no argument for it
    fast_products()
    bf16 = precision_of(o.precision, kind) == "bf16"
    if o.compile and kind == "cpu":
        raise InputError("--compile is for a GPU: on a CPU the compiler loses gradients in bf16; leave it out")
    waits = InitProcessGroupKwargs(timeout=timedelta(minutes=30))  # for the process that decodes, or draws a sample
    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=kind == "cpu", kwargs_handlers=[waits])
    os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
    processes, parts = accelerator.num_processes, o.accumulate
    if o.batch_size % (processes * parts):
        raise InputError(
            f"batch size {o.batch_size} is not a multiple of processes × accumulate, {processes} × {parts}: "
            "change --batch-size or --accumulate, or start another number of processes"
        )
    return accelerator
