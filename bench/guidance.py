"""What does guidance do, by its scale and by the noise levels at which it acts?

FID, precision and recall of samples of all classes in turn, against images that the run never trained on where there
are any; the share that a classifier recognises as their class; and the network's evaluations for an image.

    python bench/guidance.py runs/digits [--n 1000] [--scales 1 1.5 2 4] [--intervals 0-1000 100-600]
"""

import argparse

import contest
import judged
import torch

import ddim
from ddim.diffusion.course import sampling_course
from ddim.diffusion.guidance import labels_of
from ddim.evaluation import metrics
from ddim.images import to_uint8
from ddim.jobs.cost import branches_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--scales", type=float, nargs="*", default=[0, 1, 1.5, 2, 4])
    parser.add_argument("--intervals", nargs="*", default=["0-1000", "0-500", "200-600", "500-1000"])
    parser.add_argument("--rescale", type=float, nargs="*", default=[0.7])
    a = parser.parse_args()
    model = ddim.load(a.model, "cpu")
    images, labels = judged.held_out(a.model)
    judge = judged.Judge(model.shape)
    real = metrics.Statistics.of(judge.features(images))
    print(f"{a.n} samples, {a.steps} steps, against {len(images)} held-out images;", end=" ")
    print(f"of these {judge.share(images, labels):.1%} are recognised")
    ways = [ddim.Guidance(s) for s in a.scales if s in (0, 1)]
    for low, high in (tuple(map(float, interval.split("-"))) for interval in a.intervals):
        whole = (low, high) == (0, model.T)
        ways += [ddim.Guidance(s, None if whole else (low, high)) for s in a.scales if s not in (0, 1)]
    ways += [ddim.Guidance(s, None, r) for r in a.rescale for s in a.scales if s not in (0, 1)]
    path, solver, *_ = sampling_course(model, a.steps)
    wanted, rows = labels_of(model, "all", a.n), []
    for way in ways:
        made = to_uint8(ddim.sample(model, a.n, a.steps, label="all", guidance=way, progress=True))
        found = metrics.Statistics.of(judge.features(made))
        precision, recall = metrics.precision_recall(real, found)
        rows.append([
            *(f"{way.scale:g}", f"{way.interval[0]:g} to {way.interval[1]:g}" if way.interval else "all"),
            *(f"{way.rescale:g}", f"{metrics.fid(real, found):.2f}", f"{precision:.3f}", f"{recall:.3f}"),
            *(f"{judge.share(made, wanted):.1%}", str(branches_of(way, solver, path, model.abar))),
        ])  # fmt: skip
        print(" | ".join(rows[-1]), flush=True)
    header = ["scale", "times", "rescale", "FID", "precision", "recall", "recognised", "evaluations"]
    print(contest.markdown(header, rows))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
