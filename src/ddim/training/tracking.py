"""What a run writes down, sent to a tracker as well, by accelerate: TensorBoard, Weights & Biases and others."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from ddim.errors import InputError
from ddim.jobs.publishing import shareable
from ddim.training.settings import Settings

FOLDER = "track"  # within the run folder, for trackers that write files
ONE_IMAGE = ("aim", "clearml")  # trackers that take an image under a name, where others take a list of them


class Tracker:
    """The tracker of a run: its name, as accelerate has it."""

    def __init__(self, name: str, accelerator):
        self.name, self.accelerator = name, accelerator

    def line(self, line: dict[str, Any]) -> None:
        """A line of log.jsonl: its numbers."""
        self.accelerator.log(numbers(line), step=line["step"])

    def sheet(self, image: Image, step: int) -> None:
        """A sample sheet, where the tracker takes images."""
        pixels = np.atleast_3d(np.asarray(image))  # (H, W, C)
        kept = self.accelerator.get_tracker(self.name)
        if self.name == "tensorboard":
            kept.log_images({"samples": pixels[None]}, step, dataformats="NHWC")
        elif hasattr(kept, "log_images"):
            kept.log_images({"samples": pixels if self.name in ONE_IMAGE else [pixels]}, step=step)


def numbers(line: dict[str, Any], within: str = "") -> dict[str, float]:
    """The numbers of a line under names of their own, those of lists and objects too, but for the step."""
    found = {}
    for name, value in line.items():
        if isinstance(value, list | tuple):
            value = {str(k): each for k, each in enumerate(value)}
        if isinstance(value, dict):
            found |= numbers(value, f"{within}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and name != "step":
            found[f"{within}{name}"] = value
    return found


def check_tracker(name: str) -> None:
    """Raise InputError unless the library of a tracker is installed."""
    from accelerate.tracking import get_available_trackers

    if name != "none" and name not in [str(each) for each in get_available_trackers()]:
        raise InputError(f"--track {name}: its library is not installed; pip install {name}")


@contextmanager
def tracked(settings: Settings, accelerator, out: Path, step: int) -> Iterator[Tracker | None]:
    """The tracker of the run in `out`, which gets its settings; None without one. Folders of this machine stay here.

    step: the one that the run goes on from: what TensorBoard has of later ones counts no more.
    """
    name = settings.logging.track
    if name == "none":
        yield None
        return
    kept = {setting: shareable(setting, value) for setting, value in settings.flat().items()}
    plain = {setting: value if isinstance(value, int | float | str) else str(value) for setting, value in kept.items()}
    how = {"tensorboard": {"purge_step": step + 1}} if step else {}
    try:
        accelerator.init_trackers(out.resolve().name, config=plain, init_kwargs=how)
    except Exception as error:  # each library raises its own, as where one has to log in first
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"--track {name}: it cannot be started ({reason})") from error
    try:
        yield Tracker(name, accelerator)
    finally:
        accelerator.end_training()
