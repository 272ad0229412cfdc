"""A contest: every contender lives in a process of its own, all at once, and they take turns on the same weights.

A script hands a list of `Contender` to `hold`, which starts the script again for each of them, with a hidden argument:
each has its own memory and its own settings. A drift of the machine falls on all alike, for what counts is the median
of the ratios within each turn. Contenders that should compute the same function are checked to do so.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from player import Player, play

from ddim.system.progress import progress

SAME = 1e-3  # how far float32 outputs may be apart, as a share of the first one's root mean square


@dataclass
class Contender:
    """`prepare` runs in the contender's own process; `seconds` and the rest is what the contest finds out."""

    name: str
    prepare: Callable[[], Player]
    ours: bool = False  # with the process settings of our command line; the others run as shipped
    dtype: str = "float32"
    missing: str = ""  # why it cannot take part
    seconds: list[float] = field(default_factory=list)  # of each turn
    told: list[dict] = field(default_factory=list)  # what each turn returned
    peak: int = 0  # bytes
    apart: float | None = None  # its output from the first one's

    def tell(self, name: str) -> float:
        """The median of one of those numbers."""
        return median(told[name] for told in self.told)


class Process:
    """A contender's process, seen from the contest. It ends when its stdin does."""

    def __init__(self, name: str, folder: str, threads: int | None = None):
        self.name = name
        self.popen = subprocess.Popen(
            [sys.executable, *sys.argv, "--play", name, "--folder", folder],
            env=os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def go(self) -> None:
        with suppress(BrokenPipeError):  # that it has ended shows in its answer
            os.write(self.popen.stdin.fileno(), b"go\n")

    def answer(self) -> dict:
        if line := self.popen.stdout.readline():
            return json.loads(line)
        raise SystemExit(f"contest: {self.name} ended with status {self.popen.wait()}; it said why above")


def parser(doc: str) -> argparse.ArgumentParser:
    """The options of every contest."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--turns", type=int, default=5, help="of each contender, after one to warm up (5)")
    p.add_argument("--threads", type=int, help="of each process; by default what torch takes")
    p.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    p.add_argument("--json", type=Path, help="file for the numbers of every turn")
    p.add_argument("--play", help=argparse.SUPPRESS)
    p.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return p


def installed(module: str) -> str:
    """Why a module cannot be used; empty where it can."""
    return "" if find_spec(module) else f"{module} is not installed"


def ratio(base: Contender, own: Contender) -> float:
    """How many times as fast as `base`: the median over the turns."""
    return median(b / o for b, o in zip(base.seconds, own.seconds, strict=True))


def hold(
    contenders: Sequence[Contender], o: argparse.Namespace, share: Callable[[Path], None] | None = None
) -> list[Contender]:
    """Let the contenders take `o.turns` turns; returns those that could. In a contender's process, play and exit.

    `share` writes what they all read into a folder, which is `o.folder` in their processes.
    """
    if o.play:
        chosen = next(c for c in contenders if c.name == o.play)
        raise SystemExit(play(chosen.prepare, chosen.ours))
    for c in contenders:
        if c.missing:
            print(f"left out: {c.name} ({c.missing})")
    contenders = [c for c in contenders if not c.missing]
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        if share:
            share(Path(folder))
        advance = stack.enter_context(progress("turns", len(contenders) * (o.turns + 1)))
        processes, ready = [], []
        for c in contenders:
            processes.append(Process(c.name, folder, o.threads))
            stack.enter_context(processes[-1].popen)
            ready.append(processes[-1].answer())
            c.peak = ready[-1]["peak"]
            compare(c, ready[0]["output"], ready[-1]["output"])
            advance()
        for _ in range(o.turns):
            for c, process in zip(contenders, processes, strict=True):
                process.go()
                answer = process.answer()
                c.peak = answer["peak"]
                c.seconds.append(answer["seconds"])
                c.told.append(answer["told"])
                advance()
    o.threads = ready[0]["threads"]
    if o.json:
        numbers = {c.name: {k: v for k, v in vars(c).items() if k != "prepare"} for c in contenders}
        o.json.write_text(json.dumps({"options": vars(o), "contenders": numbers}, indent=2, default=str) + "\n")
    return contenders


def compare(c: Contender, first: Sequence[float] | None, own: Sequence[float] | None) -> None:
    """Note how far an output is from the first one; end the contest where float32 ones differ."""
    if first is None or own is None:
        return
    size = (sum(a * a for a in first) / len(first)) ** 0.5
    c.apart = max(abs(a - b) for a, b in zip(first, own, strict=True)) / size
    if c.dtype == "float32" and not c.apart <= SAME:
        raise SystemExit(f"contest: {c.name} computes another function: {c.apart:.2g} from the first one's output")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for the docs: the first column flush left, the others right."""
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    lines = [[first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])] for first, *rest in (header, rule, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
