"""ddim inpaint: a part of images made anew."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddim.cli.classes import Classes
from ddim.cli.editing import MaskFile, Method, load_for, tell
from ddim.cli.models import check_first
from ddim.cli.options import NEED_IMAGES, Clipping, ImageNames, Machine, ModelName, parse
from ddim.errors import InputError

EXAMPLES = (
    "ddim inpaint cifar10 cat.png --mask mask.png --answers 4",
    "ddim inpaint digits digits --mask mask.png --resample 10 --measure",
)


@dataclass(frozen=True, kw_only=True)
class Inpaint:
    """What is black in the mask returns exactly. The same command continues where it was stopped."""

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    images: ImageNames = field(default=(), metadata=NEED_IMAGES)
    """Image files, folders, .parquet files or Hub ids; `digits` for the embedded ones."""
    mask: MaskFile = None
    """A black and white image of the model's size: white is made anew."""
    method: Method = Method()
    classes: Classes = Classes()
    clipping: Clipping = Clipping()
    measure: bool = False
    """The images are whole under the mask: measure how near the answers come to them."""
    skip_broken: bool = False
    """Leave images out that cannot be read, instead of stopping."""
    n: int | None = None
    """Take the first n images only."""
    out: Path = Path("inpainted")
    """Folder to write. The sheet of the first images lies beside it."""
    machine: Machine = Machine()


def main(args: Sequence[str]) -> None:
    o = parse(Inpaint, "inpaint", args)
    m = o.method
    m.check()
    if o.mask is None:
        raise InputError("--mask is missing: name an image file, white where the image is made anew")
    from ddim.jobs.restoring import restore_files
    from ddim.system.processes import processes

    workers = processes(o.machine.device)
    check_first(o.model, o.out / "restore.json", (o.classes.label,), o.mask)
    model = load_for(o.model, o.machine, m.method, workers)
    found = restore_files(
        model, o.images, o.out, "inpaint", o.mask, degrade=o.measure, method=m.method, answers=m.answers,
        steps=m.grid.steps, spacing=m.grid.spacing, times=m.grid.times, eta=m.eta, seed=m.seed, noise=m.noise,
        resample=m.resample, scale=m.scale, clip=o.clipping.value(), batch_size=o.machine.batch_size,
        skip_broken=o.skip_broken, n=o.n, progress=True, workers=workers, label=o.classes.label,
        guidance=o.classes.value(), jump=m.jump,
    )  # fmt: skip
    if found:
        tell(found, o.measure)
