"""ddim vary: images like an image, or of another class."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddim.cli.checks import check_number
from ddim.cli.classes import Classes
from ddim.cli.models import check_first, load_model
from ddim.cli.options import (
    EXACT,
    NEED_IMAGES,
    Clipping,
    Eta,
    ImageNames,
    Machine,
    ModelName,
    SampleGrid,
    SolverName,
    parse,
)
from ddim.errors import InputError
from ddim.system.messages import counted, say

EXAMPLES = (
    "ddim vary cifar10 cat.png --strength 0.2 0.4 0.6 0.8  # a column a strength",
    "ddim vary runs/pets cat.png --source cat --label dog --guidance 2",
)


@dataclass(frozen=True, kw_only=True)
class Vary:
    """The same command continues where it was stopped."""

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    images: ImageNames = field(default=(), metadata=NEED_IMAGES)
    """Image files, folders, .parquet files or Hub ids; `digits` for the embedded ones."""
    strength: tuple[float, ...] = ()
    """How far to go, one value or several, from 0 (the image) to 1 (a new one). By default 0.5, or 1 with --source."""
    answers: int = 1
    """Images for each image and strength, each from its own noise."""
    source: str | None = None
    """The class that the images are of: add no noise, but encode with it and decode with --label."""
    classes: Classes = Classes()
    grid: SampleGrid = SampleGrid()
    solver: SolverName | None = None
    """How each step is taken; by default as in ddim sample, and ddim in 50 steps with --source."""
    eta: Eta = 0.0
    """How much noise each step adds: 0 is DDIM, 1 is DDPM, hat is DDPM with the larger variance."""
    seed: int = 0
    """Seed of all noise."""
    clipping: Clipping = Clipping()
    skip_broken: bool = False
    """Leave images out that cannot be read, instead of stopping."""
    n: int | None = None
    """Take the first n images only."""
    out: Path = Path("varied")
    """Folder to write. The sheet of the first images lies beside it."""
    machine: Machine = EXACT


def main(args: Sequence[str]) -> None:
    o = parse(Vary, "vary", args)
    for strength in o.strength:
        check_number("--strength", strength, 0, 1)
    check_number("--answers", o.answers, 1, 10**6)
    if o.source is not None and o.classes.label is None:
        raise InputError(f"--source {o.source} is the class that the images are of: give --label, that to be made, too")
    if o.grid.times is not None:
        raise InputError("--times is not for vary, whose first time is that of the strength: give --steps")
    from ddim.jobs.varying import vary_files
    from ddim.system.processes import processes

    workers = processes(o.machine.device)
    check_first(o.model, o.out / "vary.json", (o.classes.label, o.source))
    model = load_model(o.model, o.machine, workers.device, workers.is_main_process)
    found = vary_files(
        model, o.images, o.out, o.strength or (0.5 if o.source is None else 1.0), o.answers, o.grid.steps,
        o.grid.spacing, o.solver, o.eta, o.seed, o.clipping.value(), o.machine.batch_size, o.skip_broken, o.n, True,
        workers, o.classes.label, o.classes.value(), o.source,
    )  # fmt: skip
    if found:
        job = found.job
        say(f"{counted(job.n, 'image')}: {job.images}", f"sheet of the first {job.shown}: {job.sheet}")
        for strength, change in found.changes.items():
            say(f"strength {strength:g}: a pixel differs by {change:.3f} (rms) on [-1, 1]")
