"""ddim data: what a set of images holds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from ddim.cli.options import parse

EXAMPLES = (
    "ddim data my-images/",
    "ddim data stl10_binary.tar.gz:test --size 96 --out stl10.png",
)


@dataclass(frozen=True)
class Data:
    """How many images, their sizes and modes, broken ones, what was passed over, and a sheet of some."""

    source: Positional[str]
    """digits, a folder, a .parquet file, a Hub id, a zip, an lmdb folder, or a CIFAR-10 or STL-10 binary archive; a
    split is named behind a colon, as in stl10_binary.tar.gz:test."""
    size: int = 64
    """Height and width on the sheet."""
    out: Path = Path("data.png")
    """Where the sheet goes."""


def main(args: Sequence[str]) -> None:
    o = parse(Data, "data", args)
    from ddim.images.summary import summarise
    from ddim.plots import sheets
    from ddim.system.files import writable

    writable(o.out.parent)
    found = summarise(o.source, o.size, progress=True)
    sheets.save(sheets.grid(found.images), o.out)
    sizes, broken = found.sizes, found.broken
    print(f"pictures  {found.n:,}, read as {found.kind}")
    print(f"sizes     {most(sizes, lambda size: f'{size[0]}×{size[1]}')}")
    if len(sizes) > 3:
        (w, h), (W, H) = (f(sizes, key=lambda size: size[0] * size[1]) for f in (min, max))
        print(f"          smallest {w}×{h}, largest {W}×{H}")
    print(f"modes     {most(found.modes, str)}")
    print(f"crop      {found.crop or 'the centre square'}")
    print(f"broken    {len(broken)}{': ' if broken else ''}{', '.join(broken[:10])}{' …' if len(broken) > 10 else ''}")
    if found.ignored:
        print(f"ignored   {most(found.ignored, str)}")
    print(f"sheet     {o.out}")


def most(counts: Counter, show) -> str:
    """The most frequent ones, and how many more there are."""
    rest = f", and {len(counts) - 3} more" if len(counts) > 3 else ""
    return ", ".join(f"{show(key)} ({n:,})" for key, n in counts.most_common(3)) + rest
