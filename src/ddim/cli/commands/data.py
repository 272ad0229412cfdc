"""ddim data: what a set of pictures holds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from ddim.cli.commands import parse
from ddim.errors import InputError


@dataclass(frozen=True)
class Data:
    """Tell what a set of pictures holds: how many, their sizes and modes, broken ones, and a grid of some."""

    source: Positional[str]
    """digits, a folder, a .parquet file, a Hub id, a zip, an lmdb folder, or a CIFAR-10 or STL-10 binary archive; a
    split is named behind a colon, as in stl10_binary.tar.gz:test."""
    size: int = 64
    """Height and width in the grid."""
    out: Path = Path("data.png")
    """Where the grid goes."""


def main(args: Sequence[str]) -> None:
    o = parse(Data, "data", args)
    import torch

    from ddim.images import batches as data
    from ddim.plots import sheets as plot
    from ddim.system.files import writable
    from ddim.system.progress import track

    if o.size < 1:
        raise InputError(f"--size must be at least 1; got {o.size}")
    writable(o.out.parent)
    pictures = data.find(o.source, o.size, 3, skip_broken=True)
    sizes, modes, broken = Counter(), Counter(), []
    for i in track(range(len(pictures)), "reading pictures", len(pictures), "picture"):
        try:
            with pictures.open(i) as picture:
                picture.load()
                sizes[picture.size] += 1
                modes[picture.mode] += 1
        except (OSError, SyntaxError, ValueError):
            broken.append(pictures.name(i))
    if not sizes:
        raise InputError(f"{o.source}: none of its {len(pictures)} pictures can be read")
    rows = [pictures[i] for i in torch.linspace(0, len(pictures) - 1, min(64, len(pictures))).long().tolist()]
    plot.save(plot.grid(torch.stack(rows)), o.out)

    def most(counts: Counter, show) -> str:
        rest = f", and {len(counts) - 3} more" if len(counts) > 3 else ""
        return ", ".join(f"{show(key)} ({n:,})" for key, n in counts.most_common(3)) + rest

    print(f"pictures  {len(pictures):,}, read as {type(pictures).__name__}")
    print(f"sizes     {most(sizes, lambda size: f'{size[0]}×{size[1]}')}")
    if len(sizes) > 3:
        (w, h), (W, H) = (f(sizes, key=lambda size: size[0] * size[1]) for f in (min, max))
        print(f"          smallest {w}×{h}, largest {W}×{H}")
    print(f"modes     {most(modes, str)}")
    print(f"crop      {pictures.crop or 'the centre square'}")
    print(f"broken    {len(broken)}{': ' if broken else ''}{', '.join(broken[:10])}{' …' if len(broken) > 10 else ''}")
    print(f"grid      {o.out}")
