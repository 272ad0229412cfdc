"""What the page works with: the models, the folders, the trainings that it started. Nothing here imports Gradio."""

import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ddim.checkpoints.loading import load
from ddim.diffusion.model import Model
from ddim.errors import InputError, choose
from ddim.images.cache import load as decode
from ddim.images.image_set import ImageSet
from ddim.images.sources import find
from ddim.networks.acceleration.prepare import prepare
from ddim.studio.recipes import Origin
from ddim.system.files import writable


@dataclass
class Studio:
    """What the page works with. models: their names, the first one shown first.  out: the one folder it writes to.
    data: real images, as `ddim data` names them.  read_only: no training is started or stopped.
    """

    models: tuple[str, ...] = ("digits", "cifar10", "emoji")
    out: Path = Path("studio")
    data: str | None = None
    read_only: bool = False
    device: str | None = None
    precision: str = "auto"
    trainings: dict[str, subprocess.Popen] = field(default_factory=dict, repr=False)  # those started here, by name
    loaded: dict[tuple[str, str], Model] = field(default_factory=dict, repr=False)
    sizes: dict[str, int] = field(default_factory=dict, repr=False)  # parameters, unprepared
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
                model = load(name, self.device)
                self.sizes[name] = sum(p.numel() for p in model.network.parameters())
                self.loaded[key] = prepare(model, origin.precision)
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
