"""When images are given another class, what changes and what stays?

Images that the run never trained on, each asked to become the fifth class after its own: the share that a classifier
recognises as the new class, and as the old; how far a pixel is from the image (root mean square on [−1, 1]); and the
same of an image of the new class that was sampled from nothing, which keeps nothing.

    ddim train digits --labels --held-out 0.6 --out runs/held
    python bench/relabelling.py runs/held [--n 1000]
"""

import argparse

import contest
import judged
import torch
from torch import Tensor

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.directions import Shifted, mean_difference, middle_along, moved
from ddim.images import to_float, to_uint8


def by_directions(model, x: Tensor, labels: Tensor, wanted: Tensor, seen: Tensor, seen_labels: Tensor) -> dict:
    """Along the mean differences of the classes, in latents and in the middle features, found from training images."""
    path = schedule.times(model.T, 50)
    known = ddim.encode(model, seen, times=path)
    features = middle_along(model, known, path)[1]  # (S, n, c, h, w)
    z = ddim.encode(model, x, times=path)
    made = {(space, by): torch.empty_like(x) for space in ("latents", "middle") for by in (0.5, 1.0, 2.0)}
    for label in labels.unique().tolist():
        rows, new = labels == label, wanted[labels == label][0].item()
        both = (seen_labels == label) | (seen_labels == new)
        of = seen_labels[both] == new
        there, inside = mean_difference(known[both], of), mean_difference(features[:, both], of)
        levels = dict(zip(path, inside, strict=False))
        for by in (0.5, 1.0, 2.0):
            made["latents", by][rows] = ddim.decode(model, moved(z[rows], there, by), times=path)
            shifted = Shifted(model, lambda t, by=by, levels=levels: by * levels[t])
            made["middle", by][rows] = ddim.decode(shifted, z[rows], times=path)
    return {f"mean difference in the {space}, × {by:g}": image for (space, by), image in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=1000)
    a = parser.parse_args()
    model = ddim.load(a.model, "cpu")
    parts = judged.parted(a.model)
    images, labels = parts.held[: a.n], parts.held_labels[: a.n]
    seen, seen_labels = to_float(parts.seen[: a.n]), parts.labels[: a.n]  # what directions are found from
    x, wanted = to_float(images), (labels + len(model.classes) // 2) % len(model.classes)
    made = {"a new sample of the class": ddim.sample(model, n=len(x), label=wanted)}
    for strength in (0.3, 0.5, 0.7):
        made[f"vary, strength {strength:g}, guidance 2"] = ddim.vary(model, x, strength, label=wanted, guidance=2.0)
    for strength in (0.5, 0.7, 1.0):
        for guidance in (1.0, 2.0):
            name = f"encode and decode, strength {strength:g}, guidance {guidance:g}"
            made[name] = ddim.relabel(model, x, labels, wanted, guidance, strength)
    made["encode and decode, exact, guidance 1"] = ddim.relabel(model, x, labels, wanted, solver="exact")
    made["the same class at both ends"] = ddim.relabel(model, x, labels, labels)
    made |= by_directions(model, x, labels, wanted, seen, seen_labels)
    judge, rows = judged.Judge(model.shape), []
    for name, image in made.items():
        image = to_uint8(image)
        shares = [f"{judge.share(image, of):.1%}" for of in (wanted, labels)]
        rows.append([name, *shares, f"{judged.rms(image, images):.3f}"])
    print(f"{len(x)} images")
    print(contest.markdown(["way", "as the new class", "as the old", "a pixel differs by"], rows))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
