"""ddim sample: images from a model, as files."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from ddim.cli.classes import ManyClasses
from ddim.cli.models import check_first, load_model
from ddim.cli.options import Clipping, Machine, ModelName, Noise, SampleGrid, SolverName, parse
from ddim.cli.tolerance import Tolerance
from ddim.system.messages import counted, say

EXAMPLES = (
    "ddim sample digits --solver ddim --steps 20          # 64 images by DDIM, in samples/",
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
    solver: SolverName | None = None
    """How each step is taken. By default unipc; ddim with --eta, or where the model's folder says how steps are spread;
    dpm++2m for a model that saw less than a million images in its training. heun and dpm++2s evaluate the network twice
    in each step; tuned is what ddim tune found for so many steps."""
    tolerance: Tolerance = Tolerance()
    afs: bool = False
    """Take the starting noise as the network's first answer, which it nearly is: one evaluation less."""
    noise: Noise = Noise()
    classes: ManyClasses = ManyClasses()
    clipping: Clipping = Clipping()
    format: Literal["png", "npz"] = "png"
    """A PNG file for each image, or one images.npz for all (arr_0: uint8, N×H×W×C)."""
    out: Path | None = None
    """Folder to write; by default one in samples/ named after the settings. The sheet of the first images lies beside
    it."""
    pick: tuple[int, ...] = ()
    """Numbers of images, from 0, for a sheet of these in this order beside the other one."""
    compile: bool = False
    """Compile the network first: a minute of waiting, then faster steps on a GPU; on a CPU it gains little."""
    machine: Machine = Machine()

    def folder(self, way) -> Path:
        """Where the images go: named after the settings."""
        eta = {"small": way.eta, "large": "hat"}.get(self.noise.variance, self.noise.variance)
        times = "-".join(f"{t:.10g}" for t in way.times)
        if len(times) > 40:  # a name has an end
            times = f"{len(way.times) - 1}-{sha256(times.encode()).hexdigest()[:8]}"
        steps = f"S{way.steps}" if self.grid.times is None else f"times{times}"
        steps += f"-{way.spacing.replace(',', '-')}" if way.spacing else ""
        clip = {"auto": "", "on": "-clip", "off": "-noclip"}[self.clipping.clip]
        solver = "" if way.solver.name == "ddim" else f"-{way.solver.name}"
        solver = solver if self.tolerance.tolerance is None else f"-adaptive-{self.tolerance.tolerance:g}"
        name = f"{Path(self.model).name}{self.classes.named()}-{steps}{solver}-eta{eta}{clip}-seed{self.noise.seed}"
        return Path("samples") / name


def main(args: Sequence[str]) -> None:
    o = parse(Sample, "sample", args)
    from ddim.diffusion.course import manner, sampling_course
    from ddim.jobs.picking import check_pick, picked
    from ddim.jobs.sampling import sample_files
    from ddim.system.processes import processes

    check_pick(o.pick, o.n)
    check_first(o.model, o.out and o.out / "sample.json", (o.classes.label,))
    solver = o.tolerance.solver(o.solver)
    workers = processes(o.machine.device)
    model = load_model(o.model, o.machine, workers.device, workers.is_main_process, o.compile)
    g, noise, eta = o.grid, o.noise, o.noise.eta
    if o.afs:
        chosen = manner(model, g.steps, g.spacing, solver, eta, noise.variance)
        solver, eta = f"{chosen.solver}+afs", chosen.eta
    way = sampling_course(model, g.steps, g.spacing, g.times, solver, eta, noise.variance)
    if way.eta and eta is None and noise.variance == "small":
        seen = f"a young network, which has seen {model.facts.images:,} images"
        say(f"{seen}: sampled with noise in each step (--eta 0 leaves it out)")
    made = sample_files(
        model, o.out or o.folder(way), o.n, g.steps, eta, g.spacing, noise.seed, o.clipping.value(), o.format,
        o.machine.batch_size, g.times, solver, noise.variance, progress=True, workers=workers, label=o.classes.label,
        guidance=o.classes.value(),
    )  # fmt: skip
    if made:
        say(f"{counted(o.n, 'image')}: {made.images}", f"sheet of the first {made.shown}: {made.sheet}")
        if made.adaptive:
            say(made.adaptive)
        if o.pick:
            say(f"sheet of those picked: {picked(made.images, o.pick)}")
