"""How far do variations of an image go, by their strength?

Each image gets one answer a strength: how far a pixel is from the image (root mean square on [−1, 1]), how far two
answers lie apart, and the FID of the answers to the images; beside them as many samples, which keep nothing.

    python bench/varying.py cifar10 test.parquet [--n 1000] [--steps 20]
"""

import argparse

import contest
import judged
import torch

import ddim
from ddim.evaluation import metrics
from ddim.images import to_uint8
from ddim.images.selection import Selection

STRENGTHS = (0.2, 0.4, 0.6, 0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    a = parser.parse_args()
    model = ddim.prepare(ddim.load(a.model, "cpu"), "fp32")
    chosen = Selection(a.images, model.shape)
    x = chosen.batch(range(min(a.n, len(chosen))))  # (N, C, H, W) in [−1, 1]
    judge, rows = judged.Judge(model.shape), []
    real = metrics.Statistics.of(judge.features(to_uint8(x)))
    made = {f"{s:g}": ddim.vary(model, x, s, answers=2, steps=a.steps, progress=True) for s in STRENGTHS}
    made["samples"] = ddim.sample(model, n=2 * len(x), progress=True)
    for name, images in made.items():
        images = to_uint8(images)
        pairs = images.view(len(x), 2, *x.shape[1:])
        fid = metrics.fid(real, metrics.Statistics.of(judge.features(pairs[:, 0])))
        apart = judged.rms(pairs[:, 0], pairs[:, 1])
        rows.append([name, f"{judged.rms(pairs[:, 0], to_uint8(x)):.3f}", f"{apart:.3f}", f"{fid:.2f}"])
    print(f"{len(x)} images, {a.steps} steps")
    print(contest.markdown(["strength", "a pixel differs by", "answers apart", "FID"], rows))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
