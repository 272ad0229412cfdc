"""Which method restores images best? Whole images are degraded, and each method's answers are held against them.

For each task and method: PSNR of one answer and of the mean of an image's answers, FID of the answers against the real
images, how far two answers lie apart, the largest error of what is known, and the seconds an image takes.

    python bench/restoring.py runs/digits [IMAGES] [--n 1000] [--answers 2] [--steps 100] [--tasks inpaint …]

Without IMAGES they are those that the run never trained on (ddim train --held-out).
"""

import argparse
import time

import contest
import judged
import torch
from torch import Tensor

import ddim
from ddim.diffusion.operators import Blur, Colouring, Inpainting, Operator, SuperResolution
from ddim.evaluation import metrics
from ddim.images import to_float, to_uint8
from ddim.images.selection import Selection
from ddim.jobs.restoring import psnr

METHODS = {
    "projection, η = 0": {"eta": 0.0},
    "projection": {},
    "projection, 5 resamplings": {"resample": 5},
    "projection, 10 resamplings": {"resample": 10},
    "pigdm": {"method": "pigdm"},
    "dps, scale 0.3": {"method": "dps", "scale": 0.3},
    "dps, scale 1": {"method": "dps"},
}


def tasks(shape: tuple[int, int, int]) -> dict[str, Operator]:
    """The half of an image below, or its middle, unknown; a quarter of the pixels; blurred; grey."""
    C, H, W = shape
    middle, below = torch.zeros(H, W), torch.zeros(H, W)
    middle[H // 4 : -H // 4, W // 4 : -W // 4] = 1
    below[H // 2 :] = 1
    found = {"middle": Inpainting(middle), "below": Inpainting(below), "super-resolve 2": SuperResolution(2)}
    if H > 16:
        found["super-resolve 4"] = SuperResolution(4)
    found["deblur"] = Blur(1.0 if H < 16 else 1.5)
    return found | ({"colour": Colouring()} if C == 3 else {})


def measured(model, x: Tensor, operator: Operator, real: metrics.Statistics, judge, a, how: dict) -> list[str]:
    """A row of the table: x (N, C, H, W) uint8."""
    whole, began = to_float(x), time.perf_counter()
    steps = max(1, a.steps // how.get("resample", 1)) if a.equal else a.steps
    made = ddim.restore(model, operator(whole), operator, answers=a.answers, steps=steps, progress=True, **how)
    seconds = (time.perf_counter() - began) / len(made)
    known = (operator(made) - operator(whole).repeat_interleave(a.answers, 0)).abs().max().item()
    made = to_float(to_uint8(made)).view(len(x), a.answers, *x.shape[1:])
    one = psnr(made.flatten(0, 1), whole.repeat_interleave(a.answers, 0))
    mean = psnr(made.mean(1), whole)
    apart = (made[:, 1:] - made[:, :1]).square().mean().sqrt().item() if a.answers > 1 else float("nan")
    fid = metrics.fid(real, metrics.Statistics.of(judge.features(to_uint8(made[:, 0]))))
    evaluations = steps * how.get("resample", 1)
    return [
        *(
            f"{evaluations}",
            f"{one.mean():.2f} ± {one.std() / len(one) ** 0.5:.2f}",
            f"{mean.mean():.2f}",
            f"{fid:.2f}",
        ),
        *(f"{apart:.3f}", f"{known:.1g}", f"{seconds:.3f}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", nargs="*")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--answers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tasks", nargs="*")
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--equal", action="store_true", help="give resampling no more evaluations than the others")
    a = parser.parse_args()
    model = ddim.load(a.model, "cpu")
    if a.images:
        chosen = Selection(a.images, model.shape)
        x = to_uint8(chosen.batch(range(min(a.n, len(chosen)))))
    else:
        x = judged.held_out(a.model)[0][: a.n]
    judge = judged.Judge(model.shape)
    real = metrics.Statistics.of(judge.features(x))
    print(f"{len(x)} images, {a.answers} answers each, {a.steps} steps, {torch.get_num_threads()} thread(s)")
    header = ["task", "method", "evaluations", "PSNR, dB", "of the mean", "FID", "answers apart", "known", "s an image"]
    rows = []
    for task, operator in tasks(model.shape).items():
        if a.tasks and task not in a.tasks:
            continue
        for name, how in METHODS.items():
            if a.methods and name not in a.methods:
                continue
            rows.append([task, name, *measured(model, x, operator, real, judge, a, how)])
            print(" | ".join(rows[-1]), flush=True)
    print(contest.markdown(header, rows))


if __name__ == "__main__":
    main()
