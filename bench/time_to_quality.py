"""How long until an image is as good as one of the official code's DDIM-50, or DDPM-1000?

Two factors, measured in one run and stated apart: evaluations, by FID of a bundled model, ours in the precision that
it is timed in, the others' in bf16, which changes no FID that shows; and seconds an evaluation, of the paper's CIFAR-10
network with random weights, in turns. What is ours runs as our command line does; the others as they ship.

    python bench/time_to_quality.py --data train.parquet [--official FOLDER] [--n 1000] [--json FILE]
"""

import json
from argparse import Namespace
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import contest
import networks
import sampling

STEPS = 5  # of a turn of the contest: divides 1000


class Way(NamedTuple):
    """A way to sample, and who takes it at what speed."""

    name: str
    contenders: tuple[str, ...]  # as bench/sampling.py names them
    precision: str  # in which its quality is measured
    evaluations: int
    how: dict  # of `ddim.sample`


OTHERS = ("official, float32", "diffusers, float32")
WAYS = [
    Way("DDPM-1000", OTHERS, "bf16", 1000, {"eta": "hat", "steps": 1000, "clip": False}),
    Way("DDIM-50, quadratic", OTHERS, "bf16", 50, {"solver": "ddim", "spacing": "quadratic", "clip": False}),
    Way("unipc-10, the default", ("ddim, bfloat16", "ddim, int8"), "", 10, {}),
    *(
        Way(f"tuned-{steps}", ("ddim, bfloat16", "ddim, int8"), "", steps, {"solver": "tuned", "steps": steps})
        for steps in (6, 5, 4, 3)
    ),
]
PRECISIONS = {"ddim, bfloat16": "bf16", "ddim, int8": "int8"}


def quality(o: Namespace) -> dict[tuple[str, str], float]:
    """FID by way and precision. What the file `--fid` holds is not measured again."""
    from solvers import numbers_of

    import ddim
    from ddim.diffusion.course import course
    from ddim.evaluation import metrics
    from ddim.evaluation.reference import reference
    from ddim.images import to_uint8

    kept = json.loads(o.fid.read_text()) if o.fid and o.fid.exists() else {}
    plain, found = ddim.load(o.model, "cpu"), {}
    against = reference(plain, o.data, n=o.n)
    for way in WAYS:
        for precision in [way.precision] if way.precision else list(dict.fromkeys(PRECISIONS.values())):
            numbers = numbers_of(course(plain, "tuned", way.evaluations)[1]) if "tuned" in way.name else ""
            key = f"{plain.fingerprint} {o.model} {way.name}{numbers} {precision} n={o.n}"
            if key not in kept:
                model = ddim.prepare(ddim.load(o.model, "cpu"), precision)
                images = to_uint8(ddim.sample(model, o.n, progress=True, **way.how))
                kept[key] = float(metrics.fid(against.statistics, metrics.statistics(against.features, images)))
                if o.fid:
                    o.fid.write_text(json.dumps(kept, indent=1))
            found[way.name, precision] = kept[key]
    return found


def main() -> None:
    parser = contest.parser(__doc__)
    networks.options(parser)
    parser.add_argument("--model", default="cifar10", help="bundled model whose quality is measured (cifar10)")
    parser.add_argument("--data", help="its training images")
    parser.add_argument("--n", type=int, default=1000, help="images of an FID (1000)")
    parser.add_argument("--images", type=int, default=32, help="sampled at once in a turn (32)")
    parser.add_argument("--fid", type=Path, help="file of the FID; what it holds is not measured again")
    o = parser.parse_args()
    o.steps = STEPS
    if not o.play and not o.data:
        parser.error("name the training images of the model by --data")
    found = {} if o.play else quality(o)
    timed = {c.name: c for c in contest.hold(sampling.contenders(o), o, networks.share(o))}
    print(report(found, timed, o))


def report(found: dict[tuple[str, str], float], timed: dict[str, contest.Contender], o: Namespace) -> str:
    """The table: a row a way and contender, against the first contender's DDIM-50 and DDPM-1000."""
    first = next(iter(timed.values()))
    rows = []
    for way in WAYS:
        for name in filter(timed.__contains__, way.contenders):
            each = median(timed[name].seconds) / o.images / STEPS
            faster = partial(times, first, timed[name], way.evaluations)
            fid = found[way.name, way.precision or PRECISIONS[name]]
            cost = f"{1000 * each:.1f} ms", f"{way.evaluations * each:.2f} s"
            row = f"{name}, {way.name}", str(way.evaluations), f"{fid:.2f}", *cost
            rows.append([*row, f"{faster(50):.1f}", f"{faster(1000):.0f}"])
    header = ["", "evaluations", "FID", "an evaluation", "an image", "× DDIM-50", "× DDPM-1000"]
    said = f"FID of {o.model}, n = {o.n:,}; seconds of the paper's network, medians of {o.turns} turns of {o.images} "
    return f"{contest.markdown(header, rows)}\n\n{said}images on {o.threads} threads; times as fast as {first.name}"


def times(base: contest.Contender, own: contest.Contender, evaluations: int, of: int) -> float:
    """How many times as fast an image of `evaluations` is as one of the base in `of`."""
    return contest.ratio(base, own) * of / evaluations


if __name__ == "__main__":
    main()
