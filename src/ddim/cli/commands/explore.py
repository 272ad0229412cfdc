"""ddim explore: images along the directions of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from ddim.cli.checks import check_number
from ddim.cli.models import load_model
from ddim.cli.options import EXACT, ImageNames, Machine, ModelName, Spacing, parse
from ddim.system.messages import say

EXAMPLES = (
    "ddim explore cifar10                                  # principal components in the middle of the U-Net",
    "ddim explore digits digits --classes 3 8 --space latent",
)


@dataclass(frozen=True, kw_only=True)
class Explore:
    """Without --classes: principal components, a row each. With them: images of one class, moved towards another."""

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    images: ImageNames = ()
    """Image files, folders, .parquet files or Hub ids, which are encoded first; by default seeds are used."""
    space: Literal["latent", "middle"] = "middle"
    """latent: the latents. middle: the features in the middle of the U-Net (h-space), at every step."""
    classes: Annotated[tuple[str, str] | None, arg(metavar="FROM TO")] = None
    """Two classes of the images, by their names."""
    n: int = 200
    """How many images the directions are found from."""
    rows: int = 6
    """Rows of the sheet: components, or images."""
    reach: float = 3.0
    """How far to go to both sides: in standard deviations of a component, or in differences of the classes' means."""
    columns: int = 7
    """Images in a row of the sheet."""
    pick: int = 0
    """The image that components go through, by its number, from 0."""
    steps: int = 50
    """Steps of encoding, and of decoding."""
    spacing: Spacing = "linear"
    """How the steps are spread over the times from T to 0."""
    seed: int = 0
    """Seed of the starting noise, without images."""
    out: Path = Path("explore")
    """Folder to write."""
    machine: Machine = EXACT


def main(args: Sequence[str]) -> None:
    o = parse(Explore, "explore", args)
    for name, low, high in (("rows", 1, 100), ("columns", 2, 100), ("reach", 1e-3, 1e3)):
        check_number(f"--{name}", getattr(o, name), low, high)
    from ddim.jobs.directions import directions_figure

    model = load_model(o.model, o.machine)
    found = directions_figure(
        model, o.out, o.images, o.space, o.classes, o.n, o.rows, o.reach, o.columns, o.steps, o.spacing, o.pick, o.seed,
        o.machine.batch_size, True,
    )  # fmt: skip
    say(f"sheet: {found.sheet}")
    if found.apart is not None:
        say(f"{o.classes[0]} and {o.classes[1]} lie {found.apart:.2f} deviations apart along it, on other images")
    for k, (share, white) in enumerate(zip(found.shares, found.white, strict=True), 1):
        say(f"component {k}: {share:.1%} of the variance (white noise: {white:.1%})")
    for by, change in found.changes:
        say(f"{by:+.2f}: a pixel differs by {change:.3f} (rms) on [-1, 1]")
