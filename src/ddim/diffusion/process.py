"""The forward process and its Gaussian posterior: the mathematics that every sampler is made of.

Equation numbers are those of Song, Meng & Ermon 2020 (arXiv 2010.02502). The paper writes α_t for ᾱ_t.
Every `abar` here is a tensor that broadcasts against x: 0-dim for one level, (N, 1, 1, 1) for a level an image.
"""

from typing import NamedTuple

from torch import Tensor


class Prediction(NamedTuple):
    """What a network believes at one noise level: x = √ᾱ x0 + √(1−ᾱ) eps.

    x0, eps: (N, C, H, W), the image and the noise in x.  abar: ᾱ of x, 0-dim or (N, 1, 1, 1).  variance: (N, C, H, W),
    v of `learned_log_variance`, from a network that learned it, else None.
    """

    x0: Tensor
    eps: Tensor
    abar: Tensor
    variance: Tensor | None = None


def marginal(x0: Tensor, eps: Tensor, abar: Tensor) -> Tensor:
    """x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε (4). Its deterministic use, with predicted x_0 and ε, is DDIM's step (12)."""
    return abar.sqrt() * x0 + (1 - abar).sqrt() * eps


def from_eps(x: Tensor, eps: Tensor, abar: Tensor) -> Prediction:
    """x̂_0 = (x − √(1−ᾱ) ε)/√ᾱ (9). Infinite at ᾱ = 0."""
    return Prediction((x - (1 - abar).sqrt() * eps) / abar.sqrt(), eps, abar)


def from_x0(x: Tensor, x0: Tensor, abar: Tensor) -> Prediction:
    """ε = (x − √ᾱ x_0)/√(1−ᾱ): (9) solved for ε. Undefined at ᾱ = 1."""
    return Prediction(x0, (x - abar.sqrt() * x0) / (1 - abar).sqrt(), abar)


def from_v(x: Tensor, v: Tensor, abar: Tensor) -> Prediction:
    """For v = √ᾱ ε − √(1−ᾱ) x_0: x̂_0 = √ᾱ x − √(1−ᾱ) v and ε = √ᾱ v + √(1−ᾱ) x (Salimans & Ho 2022)."""
    a, b = abar.sqrt(), (1 - abar).sqrt()
    return Prediction(a * x - b * v, a * v + b * x, abar)


def sigma_bar(abar: Tensor) -> Tensor:
    """σ̄ = √((1−ᾱ)/ᾱ), the time of the ODE (14): 0 at the data, infinite where there is no signal."""
    return ((1 - abar) / abar).sqrt()


def half_log_snr(abar: Tensor) -> Tensor:
    """λ = log √(ᾱ/(1−ᾱ)) = −log σ̄: infinite at the data, −∞ where there is no signal."""
    return (abar / (1 - abar)).log() / 2


def sigma(eta: float, abar_t: Tensor, abar_s: Tensor) -> Tensor:
    """σ(η) of the step from t down to s (16). η = 0 is DDIM, η = 1 is DDPM's posterior deviation; 0 at s = 0."""
    return eta * ((1 - abar_s) / (1 - abar_t)).sqrt() * (1 - abar_t / abar_s).sqrt()


def sigma_hat(abar_t: Tensor, abar_s: Tensor) -> Tensor:
    """σ̂ = √(1 − ᾱ_t/ᾱ_s), DDPM's larger deviation (appendix D.3). It scales the noise only; mask it at s = 0."""
    return (1 - abar_t / abar_s).sqrt()


def learned_log_variance(v: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """log σ² of a step that a network learned: (1+v)/2 log β + (1−v)/2 log β̃ (Nichol & Dhariwal 2021, arXiv 2102.09672,
    eq. 15), where β̃ = σ(1)² and β = σ̂² are those of this very step, so it is for any sub-sequence.

    v: (N, C, H, W), about [−1, 1] and not clamped.  low, high: log β̃ and log β.
    """
    share = (v + 1) / 2
    return share * high + (1 - share) * low


def posterior_mean(prediction: Prediction, abar_s: Tensor, sigma: Tensor) -> Tensor:
    """The mean of q_σ(x_s | x_t, x_0) (7), (12): √ᾱ_s x_0 + √(1−ᾱ_s−σ²) ε.

    A radicand that is negative only by rounding counts as 0 (η = 1 into the last levels); a truly negative one
    gives NaN, so callers check σ² ≤ 1−ᾱ_s first (`ddim.diffusion.solvers.check_eta`).
    """
    radicand = 1 - abar_s - sigma**2
    radicand = radicand.where((radicand > 0) | (radicand < -1e-12), radicand.new_zeros(()))
    return abar_s.sqrt() * prediction.x0 + radicand.sqrt() * prediction.eps
