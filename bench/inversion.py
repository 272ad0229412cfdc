"""Why are latents of real images shorter than noise, and what does it do to the images between them?

‖z‖/√D should be 1. Four kinds of images show where the rest goes: the model's own samples, whose latents are known; the
same in 8 bits; real images; and these with the noise that x has at t = 1. And the image half-way between two: its
contrast (the deviation of its pixels) and its roughness (the root mean square of the Laplacian), as shares of those of
the images at the ends.

    python bench/inversion.py cifar10 test.parquet [--n 32] [--steps 10 20 50 100]
"""

import argparse
import json
from pathlib import Path

import contest
import torch
import torch.nn.functional as F
from torch import Tensor

import ddim
from ddim.diffusion.latents import parts_of
from ddim.diffusion.process import marginal
from ddim.errors import InputError
from ddim.images import to_float, to_uint8
from ddim.images.selection import Selection
from ddim.system.json import read_json, write_json

WAYS = [("ddim", "linear"), ("exact", "linear"), ("exact", "quadratic"), ("unipc", "log-snr")]
OWN, EIGHT, REAL, NOISY = "own samples", "own samples, 8 bits", "real images", "real images + noise of t = 1"


def roughness(images: Tensor) -> float:
    """The root mean square of the Laplacian within images (N, C, H, W)."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=images.dtype)[None, None]
    return F.conv2d(images.flatten(0, 1)[:, None], kernel).square().mean().sqrt().item()


def contrast(images: Tensor) -> float:
    """The mean over images of the deviation of their pixels."""
    return images.flatten(1).std(1).mean().item()


def kinds(model, source: str, n: int) -> dict[str, Tensor]:
    """What is encoded, (n, C, H, W) each."""
    own = ddim.sample(model, n, 200, solver="unipc", spacing="log-snr", clip=False, seed=7)
    real = Selection([source], model.shape).first(n).batch(range(n))
    noise = ddim.noise.normal(8, range(n), model.shape)
    return {OWN: own, EIGHT: to_float(to_uint8(own)), REAL: real, NOISY: marginal(real, noise, model.abar[1])}


def cell(model, images: Tensor, steps: int, solver: str, spacing: str) -> dict[str, float]:
    """The length of latents; contrast and roughness half-way between image 2k and image 2k + 1, per those of both."""
    how = {"steps": steps, "spacing": spacing, "solver": solver}
    z = ddim.encode(model, images, **how)
    first = parts_of(z)[0].double().flatten(1)  # (n, D)
    one = lambda i: tuple(p[i : i + 1] for p in z) if isinstance(z, tuple) else z[i : i + 1]  # noqa: E731
    pairs = range(0, len(images) - 1, 2)
    middles = torch.cat([ddim.interpolate(model, one(i), one(i + 1), 3, clip=False, **how)[1:2] for i in pairs]).float()
    return {
        "length": (first.norm(dim=1) / first.shape[1] ** 0.5).mean().item(),
        **{"contrast": contrast(middles) / contrast(images), "roughness": roughness(middles) / roughness(images)},
    }


def figure(cells: dict[str, dict], o: argparse.Namespace) -> Path:
    """Lengths and contrasts over S: a panel a way, a colour a kind of images."""
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(11, 5.2), layout="constrained")
    axes = sheet.subplots(2, len(WAYS), sharex=True, sharey="row")
    for column, way in enumerate(WAYS):
        for row, value in enumerate(("length", "contrast")):
            one = axes[row][column]
            for kind in (OWN, EIGHT, REAL, NOISY):
                found = [cells[f"{kind} | {', '.join(way)} | {S} | {o.n}"][value] for S in o.steps]
                one.plot(o.steps, found, "o-", label=kind, markersize=3, linewidth=1)
            one.axhline(1, color="grey", linestyle=":")
            one.set(xscale="log")
            one.set_xticks(o.steps, map(str, o.steps))
            one.minorticks_off()
            one.grid(alpha=0.3)
        axes[0][column].set_title(", ".join(way), fontsize="medium")
        axes[1][column].set_xlabel("S")
    axes[0][0].set_ylabel("‖z‖/√D")
    axes[1][0].set_ylabel("contrast half-way / at the ends")
    sheet.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    sheet.savefig(o.out / "inversion.png", dpi=110)
    return o.out / "inversion.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--n", type=int, default=32)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50, 100])
    parser.add_argument("--out", type=Path, default=Path("inversion"))
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    path = o.out / "inversion.json"
    cells = read_json(path) if path.exists() else {}
    try:
        model = ddim.load(o.model, "cpu")
        every = kinds(model, o.images, o.n)
        for S in o.steps:
            for way in WAYS:
                for kind, images in every.items():
                    key = f"{kind} | {', '.join(way)} | {S} | {o.n}"
                    if key not in cells:
                        cells[key] = cell(model, images, S, *way)
                        print(f"{key}: {json.dumps({k: round(v, 3) for k, v in cells[key].items()})}", flush=True)
                        write_json(path, cells)
    except InputError as error:
        parser.error(str(error))
    rows = [
        [kind, ", ".join(way)]
        + [
            f"{c['length']:.2f} / {c['contrast']:.2f} / {c['roughness']:.2f}"
            for S in o.steps
            for c in [cells[f"{kind} | {', '.join(way)} | {S} | {o.n}"]]
        ]
        for way in WAYS
        for kind in every
    ]
    print(contest.markdown(["images", "way", *(f"S = {S}" for S in o.steps)], rows))
    print(f"length / contrast / roughness; figure: {figure(cells, o)}")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
