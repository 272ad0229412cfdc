"""Which rule of clipping gives good images from young and from finished models? FID for each candidate.

    python tools/clipping_table.py MODEL … --reference DATA [--n 1000] [--steps 10 50]
"""

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor

import ddim
from ddim import images
from ddim.diffusion.clipping import Clip
from ddim.diffusion.process import Prediction, from_x0
from ddim.diffusion.sampling import chunks, generate
from ddim.diffusion.walk import last
from ddim.evaluation import features, metrics
from ddim.evaluation.reference import SMALL


@dataclass(frozen=True)
class Dynamic:
    """Dynamic thresholding (Saharia et al. 2022): clamp x̂_0 to a percentile of its own size, at least 1, and divide."""

    model: ddim.Model
    percentile: float = 0.995

    @property
    def abar(self) -> Tensor:
        return self.model.abar

    def __call__(self, x: Tensor, t: float) -> Prediction:
        prediction = self.model(x, t)
        if t == 0:
            return prediction
        width = prediction.x0.flatten(1).abs().quantile(self.percentile, 1).clamp_min(1)[:, None, None, None]
        return from_x0(x, prediction.x0.clamp(-width, width) / width, prediction.abar)


@dataclass(frozen=True)
class FirstMean:
    """At t = T, where x_T tells almost nothing, x̂_0 is the mean of the data (C, H, W)."""

    model: ddim.Model
    mean: Tensor

    @property
    def abar(self) -> Tensor:
        return self.model.abar

    def __call__(self, x: Tensor, t: float) -> Prediction:
        prediction = self.model(x, t)
        return from_x0(x, self.mean.expand_as(x), prediction.abar) if t == self.model.T else prediction


def candidates(model: ddim.Model, mean: Tensor) -> dict[str, tuple]:
    """By name: the model, its first time, η, and the clipping that is asked for."""
    T = model.T
    return {
        "none": (model, T, 0, False),
        "always": (model, T, 0, True),
        **{f"ᾱ < {below}": (model, T, 0, Clip(below=below)) for below in (0.5, 0.1, 0.01)},
        "dynamic": (Dynamic(model), T, 0, None),
        "mean at T": (FirstMean(model, mean), T, 0, None),
        f"from t = {T * 98 // 100}": (model, T * 98 // 100, 0, False),
        "η = 1, none": (model, T, 1, False),
        "η = 1, always": (model, T, 1, True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--reference", required=True, help="images as --data names them")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 50])
    o = parser.parse_args()
    for name in o.models:
        model = ddim.load(name, "cpu")
        network = features.find(SMALL[model.shape])
        real = images.load(images.find(o.reference, model.shape[1], model.shape[0]))
        known, mean = metrics.statistics(network, real), images.to_float(real).mean(0)
        print(f"{name}: FID ({network.name}), n = {o.n}, seed 0", flush=True)
        for what, (asked, first, eta, clip) in candidates(model, mean).items():
            found = []
            for steps in o.steps:
                times = [first * i // steps for i in range(steps, -1, -1)]
                walks = (
                    generate(asked, k, times, eta, 0, clip=clip, shape=model.shape) for k in chunks(o.n, 100)
                )  # fmt: skip
                with torch.inference_mode():
                    made = torch.cat([images.to_uint8(last(walk).x.clamp(-1, 1)) for walk in walks])
                found.append(metrics.fid(known, metrics.statistics(network, made)))
            print(f"| {what} | " + " | ".join(f"{fid:.3g}" for fid in found) + " |", flush=True)


if __name__ == "__main__":
    main()
