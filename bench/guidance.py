"""What does guidance do, by its scale and by the noise levels at which it acts?

FID, precision and recall of samples of all classes in turn, against images that the run never trained on where there
are any; the share that a classifier recognises as their class; and the network's evaluations for an image.

    python bench/guidance.py runs/digits [--n 1000] [--scales 1 1.5 2 4] [--intervals 0-1000 100-600]
    python bench/guidance.py runs/digits --figure guidance.png      # a column is one noise and one class
"""

import argparse
from pathlib import Path

import contest
import judged
import torch

import ddim
from ddim import plots
from ddim.diffusion.course import sampling_course
from ddim.diffusion.guidance import labels_of
from ddim.evaluation import metrics
from ddim.images import to_uint8
from ddim.jobs.cost import branches_of

HOW = {"solver": "unipc", "spacing": "power-1.5"}


def drawn(model: ddim.Model, path: Path) -> None:
    """Rows of the same noises and classes, by guidance."""
    ways = [ddim.Guidance(s) for s in (0, 1, 2, 4)]
    ways += [ddim.Guidance(4, (500, 1000)), ddim.Guidance(4, (0, 500)), ddim.Guidance(4, None, 0.7)]
    n = min(12, len(model.classes))
    made = [ddim.sample(model, n, 20, label="all", guidance=way, seed=1, **HOW) for way in ways]
    names = ["0", "1", "2", "4", "4, 500 to 1000", "4, 0 to 500", "4, rescaled 0.7"]
    plots.save(plots.rows(made, names, heads=model.classes[:n]), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--scales", type=float, nargs="*", default=[0, 1, 1.5, 2, 4])
    parser.add_argument("--intervals", nargs="*", default=["0-1000", "0-500", "200-600", "500-1000"])
    parser.add_argument("--rescale", type=float, nargs="*", default=[0.7])
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--seeds", type=int, default=1, help="for the deviation of a row: the mean over so many seeds")
    a = parser.parse_args()
    if a.figure:
        return drawn(ddim.load(a.model, "cpu"), a.figure)
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
    path, solver, *_ = sampling_course(model, a.steps, **HOW)
    wanted, rows = labels_of(model, "all", a.n), []
    for way in ways:
        fids = []
        for seed in reversed(range(a.seeds)):
            how = {"seed": seed, "label": "all", "guidance": way}
            made = to_uint8(ddim.sample(model, a.n, a.steps, progress=True, **how, **HOW))
            found = metrics.Statistics.of(judge.features(made))
            fids.append(metrics.fid(real, found))
        spread = f" ± {torch.tensor(fids).std():.2f}" if a.seeds > 1 else ""
        precision, recall = metrics.precision_recall(real, found)
        rows.append([
            *(f"{way.scale:g}", f"{way.interval[0]:g} to {way.interval[1]:g}" if way.interval else "all"),
            *(f"{way.rescale:g}", f"{sum(fids) / a.seeds:.2f}{spread}", f"{precision:.3f}", f"{recall:.3f}"),
            *(f"{judge.share(made, wanted):.1%}", str(branches_of(way, solver, path, model.abar))),
        ])  # fmt: skip
        print(" | ".join(rows[-1]), flush=True)
    header = ["scale", "times", "rescale", "FID", "precision", "recall", "recognised", "evaluations"]
    print(contest.markdown(header, rows))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
