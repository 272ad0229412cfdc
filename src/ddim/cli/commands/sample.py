"""ddim sample: images from a model, as files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddim.cli.classes import ManyClasses
from ddim.cli.models import load_model
from ddim.cli.options import Clipping, Machine, ModelName, Noise, SampleGrid, SolverName, parse
from ddim.system.messages import say

EXAMPLES = (
    "ddim sample digits --steps 20                        # 64 images by DDIM, in samples/",
    "ddim sample cifar10 --n 16 --solver unipc --steps 8 --out few",
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The same command continues where it was stopped.

    Started by torchrun or accelerate launch, on machines that share the folder, the processes share the work.
    """

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    n: int = 64
    """How many images."""
    grid: SampleGrid = SampleGrid()
    solver: SolverName = "ddim"
    """How each step is taken; heun and dpm++2s evaluate the network twice in each."""
    afs: bool = False
    """Take the noise for the network's first answer, of which it is nearly true: one evaluation less."""
    noise: Noise = Noise()
    classes: ManyClasses = ManyClasses()
    clipping: Clipping = Clipping()
    format: Literal["png", "npz"] = "png"
    """One PNG file an image, or one images.npz (arr_0: uint8, N×H×W×C)."""
    out: Path | None = None
    """Folder to write; by default one in samples/ named after the settings. The sheet of the first images lies beside
    it."""
    compile: bool = False
    """Compile the network first: a minute of waiting, then faster steps on a GPU; on a CPU it gains little."""
    machine: Machine = Machine()

    def folder(self) -> Path:
        g, eta = self.grid, self.noise.eta if self.noise.variance == "small" else "hat"
        steps = f"S{g.steps}-{g.spacing or 'linear'}" if g.times is None else f"times{len(g.times) - 1}"
        clip = {"auto": "", "on": "-clip", "off": "-noclip"}[self.clipping.clip]
        solver = "" if self.named() == "ddim" else f"-{self.named()}"
        chosen = "" if self.classes.label is None else "-" + re.sub(r"[^\w.-]+", "-", self.classes.label)
        chosen += "" if self.classes.guidance == 1 else f"-guidance{self.classes.guidance:g}"
        name = f"{Path(self.model).name}{chosen}-{steps}{solver}-eta{eta}{clip}-seed{self.noise.seed}"
        return self.out or Path("samples") / name

    def named(self) -> str:
        return f"{self.solver}+afs" if self.afs else self.solver


def main(args: Sequence[str]) -> None:
    o = parse(Sample, "sample", args)
    from ddim.jobs.sampling import sample_files
    from ddim.system.processes import processes

    workers = processes(o.machine.device)
    model = load_model(o.model, o.machine, workers.device, workers.is_main_process, o.compile)
    made = sample_files(
        model, o.folder(), o.n, o.grid.steps, o.noise.eta, o.grid.spacing, o.noise.seed, o.clipping.value(), o.format,
        o.machine.batch_size, o.grid.times, o.named(), o.noise.variance, progress=True, workers=workers,
        label=o.classes.label, guidance=o.classes.guidance,
    )  # fmt: skip
    if made:
        say(f"{o.n} images: {made.images}", f"sheet of the first {made.shown}: {made.sheet}")
