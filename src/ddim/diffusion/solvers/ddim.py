"""DDIM, the deterministic step (12) with σ = 0: Euler in σ̄ for dx̄ = ε dσ̄ (13, 14). Order 1, up and down."""

from torch import Tensor

from ddim.diffusion.process import Prediction, marginal
from ddim.diffusion.solvers.contract import multistep


@multistep(1)
def ddim(x: Tensor, past: tuple[Prediction, ...], abar: Tensor) -> Tensor:
    """x_s = √ᾱ_s x̂_0 + √(1−ᾱ_s) ε (12)."""
    return marginal(past[0].x0, past[0].eps, abar)
