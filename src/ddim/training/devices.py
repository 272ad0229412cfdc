"""The devices and processes of a training, by accelerate, and what its processes agree on."""

import os
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor

from ddim.errors import InputError
from ddim.system.machine import fast_products, pick_device, precision_of
from ddim.training.settings import Optimiser, Settings
from ddim.training.tracking import FOLDER, check_tracker


def accelerate(settings: Settings, device: str | None, out: Path = Path()):
    """The accelerator: device, precision, processes, and the tracker of the run in `out`. Raises InputError where they
    are not there.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.utils import ProjectConfiguration

    check_tracker(settings.logging.track)

    o, kind = settings.optimiser, pick_device(device).type
    if device and os.environ.get("WORLD_SIZE", "1") == "1":
        os.environ["ACCELERATE_TORCH_DEVICE"] = device  # accelerate has no argument for it
    fast_products()
    bf16 = precision_of(o.precision, kind) == "bf16"
    if o.compile and kind == "cpu":
        raise InputError("--compile is for a GPU: on a CPU compiled steps are no faster; leave it out")
    waits = InitProcessGroupKwargs(timeout=timedelta(minutes=30))  # for the process that decodes, or draws a sample
    accelerator = Accelerator(
        mixed_precision="bf16" if bf16 else "no",
        cpu=kind == "cpu",
        kwargs_handlers=[waits],
        log_with=None if settings.logging.track == "none" else settings.logging.track,
        project_config=ProjectConfiguration(str(out), str(out / FOLDER)),
    )
    os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
    return accelerator


def check_shares(o: Optimiser, accelerator) -> None:
    """Raise InputError unless a batch can be shared out equally among the processes, and the parts of each."""
    processes, parts = accelerator.num_processes, o.accumulate
    if o.batch_size % (processes * parts):
        raise InputError(
            f"batch size {o.batch_size} is not a multiple of processes × accumulate, {processes} × {parts}: "
            "change --batch-size or --accumulate, or start another number of processes"
        )


def agreed(loss: Tensor, mine: list[float], before: Tensor, accelerator) -> tuple[Tensor, Tensor, list[float]]:
    """The mean of the losses of all processes; that of some other numbers that each has; and those to go by.

    With several processes one goes by what they had agreed on after the step before (`before`), which has been computed
    anyway: so no step waits for the answer, and all take the same turn at the same step.
    """
    if accelerator.num_processes == 1:
        return loss, before, mine
    theirs = before.tolist()
    mean = accelerator.reduce(torch.stack([loss, *(torch.full_like(loss, value) for value in mine)]), "mean")
    return mean[0], mean[1:], theirs
