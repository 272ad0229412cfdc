"""What the tabs share: the models, the folders, and how an event becomes work that is queued, stopped, and refused."""

import functools
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from ddim.checkpoints.loading import load
from ddim.diffusion.model import Model
from ddim.errors import InputError, choose
from ddim.images.cache import load as decode
from ddim.images.image_set import ImageSet
from ddim.images.sources import find
from ddim.networks.acceleration.prepare import prepare
from ddim.studio import pictures
from ddim.studio.recipes import Origin
from ddim.system.files import writable
from ddim.system.machine import out_of_memory

LIVE = 0.15  # seconds between pictures of a walk that goes on
MOST = 64  # images at a time


@dataclass
class Studio:
    """What the page works with. models: their names, the first one shown first.  out: the one folder it writes to.
    data: real images, as `ddim data` names them.  read_only: no training is started or stopped.
    """

    models: tuple[str, ...] = ("digits", "cifar10")
    out: Path = Path("studio")
    data: str | None = None
    read_only: bool = False
    device: str | None = None
    precision: str = "auto"
    trainings: dict[str, subprocess.Popen] = field(default_factory=dict, repr=False)  # those started here, by name
    loaded: dict[tuple[str, str], Model] = field(default_factory=dict, repr=False)
    decoded: dict[tuple, Tensor | ImageSet] = field(default_factory=dict, repr=False)  # real images, by shape and name
    timed: dict[tuple[str, int], float] = field(default_factory=dict, repr=False)  # DDPM's seconds, by model and images
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def runs(self) -> Path:
        """Where trainings lie."""
        return self.out / "runs"

    def check(self) -> None:
        """Load the models, and look for the images and at the folder. Raises InputError."""
        writable(self.out)
        for name in self.models:
            model = self.model(name)
            if self.data is not None:
                self.images(model)

    def close(self) -> None:
        """Let the trainings that were started here end after their step, saved."""
        for process in self.trainings.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.trainings.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)

    def names(self) -> list[str]:
        """The models that can be chosen: those that were named, and what was trained here."""
        trained = sorted(str(path.parent) for path in self.runs.glob("*/model_index.json"))
        return [*self.models, *(name for name in trained if name not in self.models)]

    def origin(self, name: str, exact: bool = False) -> Origin:
        """How a model is named and run. exact: in fp32, as encoding needs it. Raises InputError."""
        choose("model", name, dict.fromkeys(self.names()))
        return Origin(name, "fp32" if exact else self.precision, self.device)

    def model(self, name: str, exact: bool = False) -> Model:
        """A model, loaded when it is first asked for. Raises InputError."""
        origin = self.origin(name, exact)
        key = (name, origin.precision)
        with self.lock:
            if key not in self.loaded or name not in self.models:  # a training may go on
                self.loaded[key] = prepare(load(name, self.device), origin.precision)
            return self.loaded[key]

    def images(self, model: Model) -> ImageSet:
        """Real images for a model: those given, else those it was trained on where they are here. Raises InputError."""
        source = self.data or model.facts.data
        if source is None or (self.data is None and source != "digits" and not Path(source).exists()):
            raise InputError("the training images are not here: start the studio with --data IMAGES")
        channels, size, _ = model.shape
        return find(source, size, channels)

    def known(self, model: Model) -> Tensor | ImageSet:
        """All real images for a model, (N, C, H, W) uint8; a set where they are too many for memory. InputError."""
        images, key = self.images(model), (model.shape, self.data or model.facts.data)
        with self.lock:
            if key not in self.decoded:
                self.decoded[key] = decode(images)
            return self.decoded[key]


def html(value: str = "", **how: Any) -> gr.HTML:
    """A piece of the page that is all ours: without Gradio's own styles for text."""
    return gr.HTML(value, apply_default_css=False, **how)


def guarded(note: gr.HTML, handler: Callable[..., Iterator[dict]]) -> Callable[..., Iterator[dict]]:
    """A handler that yields {component: value}, without gradients; what cannot be done becomes a sentence in `note`."""

    @functools.wraps(handler)
    def run(*args: Any):
        try:
            yield from torch.no_grad()(handler)(*args)
        except InputError as error:
            yield {note: pictures.alert(str(error))}
        except Exception as error:
            if not out_of_memory(error):
                raise
            yield {note: pictures.alert("not enough memory: take fewer images, or a smaller model")}

    return run


def work(event: Callable, note: gr.HTML, handler: Callable, inputs: list, outputs: list, stop: gr.Button | None = None):
    """Bind an event to long work: one at a time on this machine, the others wait in a queue; `stop` ends it."""
    run = event(
        guarded(note, handler), inputs, [note, *outputs], concurrency_id="network", concurrency_limit=1,
        show_progress="minimal", show_progress_on=note, trigger_mode="once", api_visibility="private",
    )  # fmt: skip
    if stop:
        ended = stop.click(None, cancels=[run])
        ended.then(  # what was on its way comes first
            lambda: pictures.note("Stopped."), None, note, show_progress="hidden", concurrency_limit=None,
            api_visibility="private",
        )  # fmt: skip
    return run


def view(event: Callable, note: gr.HTML, handler: Callable, inputs: list, outputs: list, ordered: bool = False):
    """Bind an event to what is shown at once, whoever else works. ordered: of several in a row each counts, in turn;
    else the last one.
    """
    turn = {"concurrency_limit": 1, "concurrency_id": "in turn"} if ordered else {"concurrency_limit": None}
    return event(
        guarded(note, handler), inputs, [note, *outputs], show_progress="hidden",
        trigger_mode="multiple" if ordered else "always_last", api_visibility="private", **turn,
    )  # fmt: skip


def followed(job: Callable[[Callable], Any], show: Callable[[str, float], dict]) -> Iterator[dict]:
    """Run a job in a thread; it reports (what, done, total) to the function that it is given. Meanwhile yield what
    `show` makes of what is done, and of which part of it, 0 … 1. Returns the job's value. Closed before its end, this
    ends the job at its next report.
    """
    left, told, end = threading.Event(), SimpleQueue(), []

    def report(what: str, done: int, total: int) -> None:
        if left.is_set():
            raise Left
        told.put((what, done / max(total, 1)))

    def run() -> None:
        try:
            end.append((job(report), None))
        except BaseException as error:
            end.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(LIVE)
            now = None
            while not told.empty():
                now = told.get()
            if now:
                yield show(*now)
    finally:
        left.set()
    value, error = end[0]
    if error:
        raise error
    return value


class Left(Exception):
    """Nobody looks on any more."""


def steps_of(text: str, name: str = "the numbers of steps") -> list[int]:
    """Whole numbers from a text such as "10 20 50". Raises InputError."""
    words = str(text).replace(",", " ").split()
    if (
        not words
        or not all(word.isascii() and word.isdigit() and 0 < int(word) <= 10**6 for word in words)
        or len(words) > 12
    ):
        raise InputError(f"{name} are one to twelve whole numbers, such as 10 20 50; got {text!r:.60}")
    return list(dict.fromkeys(map(int, words)))


def whole(value: Any, name: str, least: int, most: int) -> int:
    """A whole number from a field of the page. Raises InputError."""
    if type(value) not in (int, float) or not least <= value <= most or value != int(value):
        raise InputError(f"{name} is a whole number from {least} to {most}; got {value}")
    return int(value)


def number(value: Any, name: str, least: float, most: float) -> float:
    """A number from a field of the page. Raises InputError."""
    if type(value) not in (int, float) or not least <= value <= most:
        raise InputError(f"{name} is a number from {least:g} to {most:g}; got {value}")
    return round(float(value), 4)
