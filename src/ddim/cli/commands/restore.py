"""ddim restore: images from small, grey or blurred ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ddim.cli.checks import check_number
from ddim.cli.classes import Classes
from ddim.cli.editing import Method, load_for, tell
from ddim.cli.models import check_first
from ddim.cli.options import NEED_IMAGES, Clipping, ImageNames, Machine, ModelName, parse

EXAMPLES = (
    "ddim restore cifar10 small/ --task super-resolve --factor 4 --answers 4",
    "ddim restore cifar10 photos/ --task deblur --sigma 1.5 --degrade",
)


@dataclass(frozen=True, kw_only=True)
class Restore:
    """The same command continues where it was stopped."""

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    images: ImageNames = field(default=(), metadata=NEED_IMAGES)
    """Image files, folders, .parquet files or Hub ids: small, grey or blurred; or whole, with --degrade."""
    task: Literal["super-resolve", "colour", "deblur"] = "super-resolve"
    """super-resolve: enlarge images whose pixels are means of --factor × --factor pixels. colour: colour grey images.
    deblur: undo a Gaussian blur of --sigma pixels."""
    factor: int = 2
    """How many times the height and width of the images are too small, for super-resolve."""
    sigma: float = 1.0
    """Standard deviation of the blur in pixels, for deblur."""
    degrade: bool = False
    """The images are whole: make them small, grey or blurred first, and measure how near the answers come to them."""
    method: Method = Method()
    classes: Classes = Classes()
    clipping: Clipping = Clipping()
    skip_broken: bool = False
    """Leave images out that cannot be read, instead of stopping."""
    n: int | None = None
    """Take the first n images only."""
    out: Path = Path("restored")
    """Folder to write. The sheet of the first images lies beside it."""
    machine: Machine = Machine()


def main(args: Sequence[str]) -> None:
    o = parse(Restore, "restore", args)
    m = o.method
    m.check()
    check_number("--factor", o.factor, 2, 4096), check_number("--sigma", o.sigma, 1e-3, 1e4)
    from ddim.jobs.restoring import restore_files
    from ddim.system.processes import processes

    workers = processes(o.machine.device)
    check_first(o.model, o.out / "restore.json", (o.classes.label,))
    model = load_for(o.model, o.machine, m.method, workers)
    found = restore_files(
        model, o.images, o.out, o.task, None, o.factor, o.sigma, o.degrade, m.method, m.answers, m.grid.steps,
        m.grid.spacing, m.grid.times, "ddim", m.eta, m.seed, m.noise, m.resample, m.scale, o.clipping.value(),
        o.machine.batch_size, o.skip_broken, o.n, True, workers, o.classes.label, o.classes.value(), m.jump,
    )  # fmt: skip
    if found:
        tell(found, o.degrade)
