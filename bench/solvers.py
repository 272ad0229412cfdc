"""Which solver and which grid make the best images of a model in few evaluations?

A table a model: solvers and spacings down, numbers of evaluations across; FID against the model's training images, and
in brackets the distance to where many steps end from the same noise (root mean square of pixels on [0, 1], of the first
200 images). The best of a column is bold. What is in the file of --json is not measured again.

    python bench/solvers.py cifar10 [--data train.parquet] [--n 200] [--evaluations 4 5 6] [--solvers dpm++3m …]
"""

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import contest
import torch
from torch import Tensor

import ddim
from ddim.diffusion.course import course
from ddim.diffusion.model import Model
from ddim.diffusion.sampling import chunks, default_batch_size, generate
from ddim.diffusion.schedule import Time, grid
from ddim.diffusion.solvers import SOLVERS, TUNED, Implicit, Solver, clip_with, find
from ddim.diffusion.solvers.tuned import Tuned
from ddim.diffusion.walk import last
from ddim.errors import InputError
from ddim.evaluation import metrics
from ddim.evaluation.reference import Reference, reference
from ddim.evaluation.step_consistency import distance
from ddim.images import to_uint8
from ddim.system.files import replacing

SAMPLING = [name for name, solver in SOLVERS.items() if not isinstance(solver, Implicit) and name != "unipc2"]
SPACINGS = ["quadratic", "power-1.5", "linear", "log-snr", "karras"]
MANY = 150  # intervals of the long walk, which UniPC-3 takes on the quadratic grid
NEAR = 200  # images whose distance to its end is measured


def course_for(model: Model, name: str, evaluations: int, spacing: str) -> tuple[list[Time], Solver] | None:
    """The grid on which a walk takes so many evaluations, or one less where its steps have two, and its solver; None
    where there is none.
    """
    if name == TUNED:
        known = spacing == TUNED and model.facts.tuning and evaluations in model.facts.tuning.solvers
        return course(model, name, evaluations) if known else None
    for steps in range(evaluations + 1, 0, -1):
        path, solver = course(model, name, steps, spacing)
        if evaluations - 1 <= solver.evaluations(path) <= evaluations:
            return path, solver
    return None


@torch.no_grad()
def images(model: Model, n: int, path: Sequence[Time], solver: Solver, clip: bool | None) -> Tensor:
    """The first n images of seed 0, (n, C, H, W) in [−1, 1] on the CPU."""
    parts, clip = chunks(n, default_batch_size(model)), clip_with(solver, clip)
    return torch.cat(
        [last(generate(model, part, path, solver=solver, clip=clip)).x.clamp(-1, 1).cpu() for part in parts]
    )


@dataclass
class Table:
    """The cells of a model, measured or read from a file."""

    name: str
    model: Model
    against: Reference
    o: argparse.Namespace
    cells: dict[str, dict] = field(default_factory=dict)  # by what they are of
    many: Tensor | None = None

    def cell(self, solver: str, spacing: str, evaluations: int) -> dict | None:
        """What was measured of a way; None where there is none. It is kept in the file of `--json` at once."""
        o, model = self.o, self.model
        of = f"{self.name} {model.fingerprint} {model.facts.precision} clip={o.clip} n={o.n}"
        if (way := course_for(model, solver, evaluations, spacing)) is None:
            return None
        key = f"{of} {solver}{numbers_of(way[1])} {spacing} {evaluations}"
        if key in self.cells:
            return self.cells[key]
        if self.many is None:
            path = grid(model.abar, min(MANY, model.T), "quadratic")
            self.many = images(model, min(NEAR, o.n), path, find("unipc3"), o.clip)
        start, made = time.perf_counter(), images(model, o.n, *way, o.clip)
        seconds = time.perf_counter() - start
        found = metrics.fid(self.against.statistics, metrics.statistics(self.against.features, to_uint8(made)))
        near = distance(made[: len(self.many)], self.many)
        self.cells[key] = {"fid": float(found), "distance": float(near), "seconds": seconds}
        if o.json:
            with replacing(o.json) as part:
                part.write_text(json.dumps(self.cells, indent=1))
        return self.cells[key]

    def rows(self) -> list[list[str]]:
        """Markdown: a row a solver and spacing; those that no column has are left out."""
        o = self.o
        ways = [(solver, spacing) for solver in o.solvers if solver != TUNED for spacing in o.spacings]
        ways += [(TUNED, TUNED)] * (TUNED in o.solvers)
        found = [[self.cell(*way, evaluations) for evaluations in o.evaluations] for way in ways]
        best = [min((c["fid"] for c in column if c), default=0) for column in zip(*found, strict=True)]
        return [
            [f"`{way[0]}`", "" if way[0] == TUNED else way[1], *(shown(c, b) for c, b in zip(row, best, strict=True))]
            for way, row in zip(ways, found, strict=True)
            if any(row)
        ]


def numbers_of(solver: Solver) -> str:
    """Eight hex digits that name the numbers of a tuned solver, so that another tuning is measured anew."""
    if not isinstance(solver, Tuned):
        return ""
    numbers = repr((solver.base.name, solver.times, solver.asked, solver.x, solver.x0))
    return f" {hashlib.sha256(numbers.encode()).hexdigest()[:8]}"


def shown(cell: dict | None, best: float) -> str:
    if cell is None:
        return ""
    fid = f"{cell['fid']:.2f}" if cell["fid"] < 100 else f"{cell['fid']:.0f}"
    return f"{'**' + fid + '**' if cell['fid'] == best else fid} ({cell['distance']:.3f})"


def measure(name: str, o: argparse.Namespace) -> None:
    model = ddim.prepare(ddim.load(name, o.device), o.precision)
    against = reference(model, o.data or model.facts.data or "", n=o.n)
    kept = json.loads(o.json.read_text()) if o.json and o.json.exists() else {}
    rows = Table(name, model, against, o, kept).rows()
    where = f"{model.facts.precision} on {model.device}"
    print(f"\n{name}: {o.n:,} images in {where}; FID by {against.features.name} (distance to the many-step end)\n")
    print(contest.markdown(["", "", *(str(e) for e in o.evaluations)], rows), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="bundled names, or folders")
    parser.add_argument("--data", default="", help="training images; by default those that the model names")
    parser.add_argument("--n", type=int, default=200, help="images a cell (200)")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--solvers", nargs="+", default=SAMPLING, help="also NAME+afs, tuned")
    parser.add_argument("--spacings", nargs="+", default=SPACINGS)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--no-clip", dest="clip", action="store_const", const=False, help="by default the rule")
    parser.add_argument("--json", type=Path, help="file of what was measured; continues where it was stopped")
    parser.add_argument("--device", default=None)
    o = parser.parse_args()
    try:
        for name in o.models:
            measure(name, o)
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
