"""ddim data: what a set of images holds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.cli.options import parse
from ddim.cli.records import AsJson, print_json
from ddim.system.messages import say

EXAMPLES = (
    "ddim data my-images/",
    "ddim data stl10_binary.tar.gz:test --size 96 --out stl10.png",
)


@dataclass(frozen=True)
class Data:
    """How many images there are, their classes, sizes and colour modes, which are broken, which files are no images,
    and a sheet of some.
    """

    source: Annotated[str, Positional, arg(metavar="IMAGES")]
    """digits; a folder of images, of parquet shards or of webdataset shards; a .parquet, .npy, .npz, .zip, .tar or
    MNIST idx file; an lmdb folder; a CIFAR-10 or STL-10 binary archive; or a Hub id. A split is named behind a colon,
    as in stl10_binary.tar.gz:test; one of several columns behind a #, as in pairs.parquet#target."""
    size: int = 64
    """Height and width of each image on the sheet, in pixels."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """File to write: the sheet; by default data.png, or the first of data-2.png, data-3.png, … that is not there."""
    report: AsJson = AsJson()


def main(args: Sequence[str]) -> None:
    o = parse(Data, "data", args)
    from ddim.images.sources import check_outside
    from ddim.images.summary import summarise
    from ddim.plots import sheets
    from ddim.system.files import writable

    out = o.out or free(Path("data.png"))
    sheets.check_suffix(out)
    check_outside(out, o.source)
    writable(out.parent)
    found = summarise(o.source, o.size, progress=True)
    sheets.save(sheets.grid(found.images), out)
    print_json(record(found)) if o.report.json else show(found, out)


def free(path: Path) -> Path:
    """A name that no file has: that of `path`, or with the first number from 2 on."""
    names = (path.with_stem(f"{path.stem}-{k}") for k in count(2))
    return next(name for name in chain([path], names) if not name.exists())


def record(found) -> dict[str, object]:
    """A summary as numbers, lists and objects."""
    labels, sizes = found.labels, [{"width": w, "height": h, "n": n} for (w, h), n in found.sizes.most_common()]
    numbers = labels and dict(zip(labels.classes, labels.counts(), strict=True))
    return {
        **{"n": found.n, "kind": found.kind, "classes": numbers},
        "of_no_class": int((labels.numbers < 0).sum()) if labels else 0,
        **{"sizes": sizes, "modes": dict(found.modes), "crop": found.crop},
        **{"broken": found.broken, "ignored": dict(found.ignored)},
    }


def show(found, out: Path) -> None:
    """The summary in words."""
    sizes, broken = found.sizes, found.broken
    say(f"pictures  {found.n:,}, read as {found.kind}")  # the word that users' scripts look for
    say(f"classes   {classes(found.labels)}")
    say(f"sizes     {most(sizes, lambda size: f'{size[0]}×{size[1]}')}")
    if len(sizes) > 3:
        (w, h), (W, H) = (f(sizes, key=lambda size: size[0] * size[1]) for f in (min, max))
        say(f"          smallest {w}×{h}, largest {W}×{H}")
    say(f"modes     {most(found.modes, str)}")
    say(f"crop      {found.crop or 'the centre square'}")
    say(f"broken    {len(broken)}{': ' if broken else ''}{', '.join(broken[:10])}{' …' if len(broken) > 10 else ''}")
    if broken:
        say("          they are counted above; ddim train --skip-broken leaves them out")
    if found.passed_over:
        say(f"ignored   {found.passed_over}")
    say(f"sheet     {out}")


def classes(labels) -> str:
    """The classes of a set in order, a few where they are many, each with its number of images."""
    if labels is None:
        return "none: no class folders, no column or file of labels"
    names = [f"{name} ({n:,})" for name, n in zip(labels.classes, labels.counts(), strict=True)]
    lacking = int((labels.numbers < 0).sum())
    rest = (f", and {len(names) - 20} more" if len(names) > 20 else "") + (f"; {lacking:,} of none" if lacking else "")
    return f"{len(names)}: {', '.join(names[:20])}{rest}"


def most(counts: Counter, show) -> str:
    """The most frequent ones, and how many more there are."""
    rest = f", and {len(counts) - 3} more" if len(counts) > 3 else ""
    return ", ".join(f"{show(key)} ({n:,})" for key, n in counts.most_common(3)) + rest
