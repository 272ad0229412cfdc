"""Options that `inpaint`, `restore` and `vary` share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from ddim.cli.checks import check_number
from ddim.cli.models import load_model
from ddim.cli.options import Eta, Grid, Machine
from ddim.errors import InputError
from ddim.system.messages import counted, say

MaskFile = Annotated[Path | None, arg(metavar="FILE")]
GRADIENTS = ("pigdm", "dps")


@dataclass(frozen=True, kw_only=True)
class Method:
    """How the answers are made to fit what is known."""

    method: Literal["projection", "pigdm", "dps"] = "projection"
    """projection puts what is known into each predicted image (DDNM; RePaint with --resample). pigdm and dps follow
    gradients through the network: two to four times the time, in fp32."""
    resample: int = 1
    """With projection: how many times to take each step, from 1 on, with noise between, so that what is made anew fits
    what is known. It takes so many times as long."""
    jump: int = 1
    """With --resample: how many steps to go back at once and take again, from 1 on; RePaint's own took 10 of 250."""
    scale: float = 1.0
    """Factor of the gradient of dps, above 0: more keeps closer to what is known."""
    noise: float = 0.0
    """Standard deviation of the noise in what is known, on [-1, 1]. At 0, what is known returns exactly."""
    grid: Grid = Grid(steps=100)
    eta: Eta = 1.0
    """How much noise each step adds: 0 is DDIM, 1 is DDPM, hat is DDPM with the larger variance."""
    answers: int = 1
    """Answers for each image, each from its own noise."""
    seed: int = 0
    """Seed of all noise: answer j of image i is the same whatever the batch size."""

    def check(self) -> None:
        """Raise InputError where a number is none that could be, before torch is loaded."""
        for name, low, high in (("resample", 1, 1000), ("jump", 1, 10**6), ("answers", 1, 10**6), ("noise", 0, 100)):
            check_number(f"--{name}", getattr(self, name), low, high)
        if self.jump > 1 and self.resample == 1:
            raise InputError("--jump goes back for --resample to take steps again: give --resample 2 or more")
        if not self.scale > 0:
            raise InputError(f"--scale must be above 0; got {self.scale:g}")


def load_for(name: str, machine: Machine, method: str, workers):
    """The model, prepared; in fp32 for a method of gradients. Raises InputError for another precision there."""
    if method in GRADIENTS:
        if machine.precision not in ("auto", "fp32"):
            raise InputError(f"method {method} needs gradients through the network: leave out --precision")
        machine = Machine(batch_size=machine.batch_size, device=machine.device, precision="fp32")
    return load_model(name, machine, workers.device, workers.is_main_process)


def tell(found, degrade: bool) -> None:
    """What a restoration wrote, and how near it came."""
    job = found.job
    made = f"{counted(job.n, 'image')}, {counted(job.answers, 'answer')}{' each' if job.n > 1 else ''}"
    say(f"{made}: {job.images}", f"sheet of the first {job.shown}: {job.sheet}")
    if degrade:
        more = f", of their mean {found.psnr_of_mean:.2f}; two answers differ by {found.diversity:.3f} (rms)"
        say(f"PSNR of an answer {found.psnr:.2f} dB{more if job.answers > 1 else ''}")
        say(f"largest difference of what is known: {found.known:.2g}, on [-1, 1] and 8 bits")
