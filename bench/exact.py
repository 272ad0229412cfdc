"""What of the paper's table 1 is the sampler's doing, and what the network's? The table again, with ε known exactly.

A mixture of Gaussians is fitted to images. Its own samples stand for the real ones, and ε is a closed form: no
network errs, and what is left is the error of taking few steps.

    python bench/exact.py train.parquet [--n 1000] [--steps 10 20 50 100] [--eta 0 0.2 0.5 1 hat]
"""

import argparse

import contest
import torch
from torch import Tensor

from ddim import images
from ddim.diffusion import schedule
from ddim.diffusion.process import Prediction, from_x0
from ddim.diffusion.sampling import chunks, generate
from ddim.diffusion.walk import last
from ddim.errors import InputError
from ddim.evaluation import features, metrics
from ddim.evaluation.reference import SMALL

REAL = 20_000  # samples of the mixture that the others are held against


class Mixture:
    """K Gaussians of any covariance in the first D principal directions of images (M, C, H, W), one in the others.

    A denoiser: (x (N, C, H, W), t in 1..T) -> Prediction, exactly.
    """

    def __init__(self, data: Tensor, components: int, directions: int):
        self.abar, self.shape, self.device = schedule.linear(), tuple(data.shape[1:]), data.device
        x = data.flatten(1)  # (M, P)
        self.mean = x.mean(0)
        self.basis = torch.linalg.eigh(x.T.cov()).eigenvectors.flip(1)  # (P, P), a column a direction, widest first
        first, others = ((x - self.mean) @ self.basis).tensor_split([directions], dim=1)
        self.others = others.square().mean(0)  # (P−D,)
        centres = first[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:components]]
        nearest = torch.cdist(first, centres).argmin(1)  # (M,)
        parts = [first[nearest == k] for k in range(components)]
        self.weights = torch.tensor([len(part) / len(x) for part in parts])  # (K,)
        self.means = torch.stack([part.mean(0) for part in parts])  # (K, D)
        spreads = []  # the fewer images, the more is taken from all
        for part in parts:
            share = len(part) / (len(part) + part.shape[1])
            spreads.append(share * part.T.cov(correction=0) + (1 - share) * first.var(0).diag())
        variances, self.axes = torch.linalg.eigh(torch.stack(spreads))
        self.variances = variances.clamp_min(1e-6)  # (K, D), along the columns of the axes (K, D, D)

    def draw(self, n: int, seed: int) -> Tensor:
        """Samples of the mixture itself: (n, C, H, W)."""
        generator = torch.Generator().manual_seed(seed)
        k = self.weights.multinomial(n, replacement=True, generator=generator)
        z = torch.randn(n, len(self.mean), generator=generator)
        first, others = z.tensor_split([self.means.shape[1]], dim=1)
        for i in range(len(self.weights)):
            of = k == i
            first[of] = self.means[i] + (first[of] * self.variances[i].sqrt()) @ self.axes[i].T
        return self.from_directions(first, others * self.others.sqrt())

    def from_directions(self, first: Tensor, others: Tensor) -> Tensor:
        return (torch.cat([first, others], 1) @ self.basis.T + self.mean).view(-1, *self.shape)

    def __call__(self, x: Tensor, t: int) -> Prediction:
        """E[x_0 | x_t = x]: each component's by linear regression, weighted by how likely x is to come from it."""
        a = self.abar[t].item()
        z = (x.flatten(1) - a**0.5 * self.mean) @ self.basis
        first, others = z.tensor_split([self.means.shape[1]], dim=1)
        total = a * self.variances + 1 - a  # (K, D), the variances of x_t
        log, expected = [], []
        for i in range(len(self.weights)):
            offset = (first - a**0.5 * self.means[i]) @ self.axes[i]  # (N, D)
            log.append(self.weights[i].log() - (offset.square() / total[i] + total[i].log()).double().sum(1) / 2)
            expected.append(self.means[i] + (a**0.5 * self.variances[i] / total[i] * offset) @ self.axes[i].T)
        r = torch.stack(log, 1).softmax(1).to(x.dtype)  # (N, K)
        x0 = (r[:, :, None] * torch.stack(expected, 1)).sum(1)  # (N, D)
        x0 = self.from_directions(x0, a**0.5 * self.others / (a * self.others + 1 - a) * others)
        return from_x0(x, x0, self.abar[t])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="images that are 8×8 and grey (digits), or 32×32 and coloured")
    parser.add_argument("--components", type=int, default=30, help="Gaussians in the mixture (30)")
    parser.add_argument("--directions", type=int, default=384, help="in which they have covariances (384)")
    parser.add_argument("--n", type=int, default=1000, help="images a cell")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50, 100])
    parser.add_argument("--eta", type=eta, nargs="+", default=[0.0, 0.2, 0.5, 1.0, "hat"])
    o = parser.parse_args()
    try:
        measure(o)
    except InputError as error:
        parser.error(str(error))


def eta(text: str) -> float | str:
    return text if text == "hat" else float(text)


def measure(o: argparse.Namespace) -> None:
    shape = (1, 8, 8) if o.data == "digits" else (3, 32, 32)
    model = Mixture(images.to_float(images.load(images.find(o.data, shape[1], shape[0]))), o.components, o.directions)
    network = features.find(SMALL[shape])

    def known(some: Tensor) -> metrics.Statistics:
        return metrics.statistics(network, images.to_uint8(some))

    real = known(model.draw(REAL, seed=1))
    print(f"{o.n} images a cell; FID (KID × 1000) by {network.name}; {o.n} of the mixture itself are ", end="")
    print(f"at {metrics.fid(real, known(model.draw(o.n, seed=2))):.4f}\n", flush=True)
    rows = []
    for eta in o.eta:
        rows.append(["σ̂" if eta == "hat" else f"η = {eta:g}"])
        for steps in o.steps:
            times = schedule.times(1000, steps, "quadratic")
            found = known(torch.cat([last(generate(model, k, times, eta, clip=False)).x for k in chunks(o.n, 250)]))
            rows[-1].append(f"{metrics.fid(real, found):.4f} ({1000 * metrics.kid(real, found)[0]:.2f})")
    print(contest.markdown(["S =", *map(str, o.steps)], rows))


if __name__ == "__main__":
    main()
