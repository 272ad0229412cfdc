"""Which solver and which grid make the best images of a model in few evaluations?

For every number of evaluations a table, solvers down and spacings across: FID against the model's training images, and
in brackets the distance to where many steps end from the same noise (root mean square of pixels on [0, 1]).

    python bench/solvers.py cifar10 [--data train.parquet] [--n 200] [--evaluations 4 5 6] [--solvers dpm++3m …]
"""

import argparse
import time
from collections.abc import Sequence

import contest
import torch
from torch import Tensor

import ddim
from ddim.diffusion.course import course
from ddim.diffusion.model import Model
from ddim.diffusion.sampling import chunks, default_batch_size, generate
from ddim.diffusion.schedule import Time, grid
from ddim.diffusion.solvers import SOLVERS, TUNED, Implicit, Solver, find
from ddim.diffusion.walk import last
from ddim.errors import InputError
from ddim.evaluation import metrics
from ddim.evaluation.reference import reference
from ddim.evaluation.step_consistency import distance
from ddim.images import to_uint8

SAMPLING = [name for name, solver in SOLVERS.items() if not isinstance(solver, Implicit) and name != "unipc2"]
SPACINGS = ["quadratic", "power-1.5", "linear", "log-snr", "karras"]
MANY = 50  # intervals of the long walk, which AB3 takes on the quadratic grid


def course_for(model: Model, name: str, evaluations: int, spacing: str) -> tuple[list[Time], Solver] | None:
    """The grid on which a walk takes so many evaluations, and its solver; None where there is none."""
    if name == TUNED:
        return course(model, name, evaluations) if spacing == TUNED else None
    for steps in range(1, evaluations + 2) if spacing != TUNED else ():
        path, solver = course(model, name, steps, spacing)
        if solver.evaluations(path) == evaluations:
            return path, solver
    return None


@torch.no_grad()
def images(model: Model, n: int, path: Sequence[Time], solver: Solver, clip: bool | None) -> Tensor:
    """The first n images of seed 0, (n, C, H, W) in [−1, 1] on the CPU."""
    parts = chunks(n, default_batch_size(model))
    return torch.cat(
        [last(generate(model, part, path, solver=solver, clip=clip)).x.clamp(-1, 1).cpu() for part in parts]
    )


def cell(model: Model, against, many: Tensor, way: tuple[list[Time], Solver] | None, clip: bool | None) -> str:
    if way is None:
        return ""
    made = images(model, len(many), *way, clip)
    found = metrics.fid(against.statistics, metrics.statistics(against.features, to_uint8(made)))
    return f"{found:.2f} ({distance(made, many):.3f})"


def measure(name: str, o: argparse.Namespace) -> None:
    model = ddim.prepare(ddim.load(name, o.device), o.precision)
    against = reference(model, o.data or model.facts.data or "", n=o.n)
    many = images(model, o.n, grid(model.abar, min(MANY, model.T), "quadratic"), find("ab3"), o.clip)
    longest = metrics.fid(against.statistics, metrics.statistics(against.features, to_uint8(many)))
    print(
        f"\n{name}: {o.n} images in {model.facts.precision} on {model.device}; FID by {against.features.name}; ", end=""
    )
    print(f"of many steps {longest:.2f}")
    for evaluations in o.evaluations:
        start, rows = time.perf_counter(), []
        spacings = [*o.spacings, *([TUNED] if TUNED in o.solvers else [])]
        for name in o.solvers:
            ways = [course_for(model, name, evaluations, spacing) for spacing in spacings]
            rows.append([name, *(cell(model, against, many, way, o.clip) for way in ways)])
        print(f"\n{contest.markdown([f'{evaluations} evaluations', *spacings], rows)}")
        print(f"\n{time.perf_counter() - start:.0f} s", flush=True)


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
    parser.add_argument("--device", default=None)
    o = parser.parse_args()
    try:
        for name in o.models:
            measure(name, o)
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
