import itertools

import pytest
import torch
from diffusers import DDPMScheduler

from ddim.diffusion import schedule
from ddim.diffusion.process import Prediction, from_eps, from_v, from_x0, marginal, posterior_mean, sigma, sigma_hat

ABAR = schedule.linear()
PAIRS = [(1000, 999), (1000, 500), (500, 1), (20, 1), (2, 1), (700, 20)]


@pytest.mark.parametrize(("t", "s"), PAIRS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_marginal_is_kept_for_every_admissible_sigma(t: int, s: int, share: float):
    """Lemma 1: x_s drawn from (7) over x_t ~ q(x_t | x_0) is N(√ᾱ_s x_0, 1−ᾱ_s), whatever σ² ≤ 1−ᾱ_s."""
    n, x0 = 400_000, torch.tensor(0.7, dtype=torch.float64)
    generator = torch.Generator().manual_seed(t + s)
    eps, z = torch.randn(2, n, generator=generator, dtype=torch.float64)
    width = share * (1 - ABAR[s]).sqrt()
    x_t = marginal(x0, eps, ABAR[t])
    x_s = posterior_mean(from_x0(x_t, x0, ABAR[t]), ABAR[s], width) + width * z
    spread = (1 - ABAR[s]).sqrt()
    # Standard errors are 0.16% of the deviation for the mean and 0.22% for the variance: 1% is over four of them.
    assert abs(x_s.mean() - ABAR[s].sqrt() * x0) < 0.01 * spread
    assert abs(x_s.var() / spread**2 - 1) < 0.01


@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_eta_one_is_ddpms_posterior(t: int, s: int):
    """Mean and variance of q(x_s | x_t, x_0) by Bayes' rule, written out (Ho et al. 2020, 6 and 7)."""
    x_t, x0 = torch.randn(2, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alpha = ABAR[t] / ABAR[s]
    mean = (ABAR[s].sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - ABAR[s]) * x_t) / (1 - ABAR[t])
    variance = (1 - ABAR[s]) / (1 - ABAR[t]) * (1 - alpha)
    width = sigma(1.0, ABAR[t], ABAR[s])
    torch.testing.assert_close(width**2, variance, rtol=0, atol=1e-10)
    torch.testing.assert_close(posterior_mean(from_x0(x_t, x0, ABAR[t]), ABAR[s], width), mean, rtol=0, atol=1e-10)


def test_sigmas_are_the_public_implementations():
    scheduler = DDPMScheduler(1000, variance_type="fixed_small")
    large = DDPMScheduler(1000, variance_type="fixed_large")
    for t in (1000, 400, 17, 2):
        small = scheduler._get_variance(torch.tensor(t - 1))
        assert abs(sigma(1.0, ABAR[t], ABAR[t - 1]) ** 2 / small - 1) < 1e-3
        assert abs(sigma_hat(ABAR[t], ABAR[t - 1]) ** 2 / large._get_variance(torch.tensor(t - 1)) - 1) < 1e-3


def test_sigma_vanishes_into_the_data_and_sigma_hat_does_not():
    assert sigma(1.0, ABAR[20], ABAR[0]) == 0
    assert sigma_hat(ABAR[20], ABAR[0]) > 0


@pytest.mark.parametrize("t", [1, 20, 500, 1000])
def test_parametrisations_agree(t: int):
    """x = √ᾱ x0 + √(1−ᾱ) ε, told as ε, as x0 and as v, gives back both."""
    x0, eps = torch.randn(2, 4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(t))
    level = ABAR[t]
    x = marginal(x0, eps, level)
    v = level.sqrt() * eps - (1 - level).sqrt() * x0
    for prediction in (from_eps(x, eps, level), from_x0(x, x0, level), from_v(x, v, level)):
        torch.testing.assert_close(prediction.x0, x0, rtol=0, atol=1e-10)
        torch.testing.assert_close(prediction.eps, eps, rtol=0, atol=1e-10)


def test_the_direction_of_sigma_hat_would_be_imaginary():
    """Why σ̂ scales the noise only: on a coarse grid σ̂² exceeds 1−ᾱ_s."""
    prediction = Prediction(torch.zeros(1), torch.ones(1), ABAR[100])
    wide = sigma_hat(ABAR[100], ABAR[1])
    assert wide**2 > 1 - ABAR[1]
    assert posterior_mean(prediction, ABAR[1], wide).isnan()


def test_eta_one_has_no_negative_radicand_anywhere():
    for t, s in itertools.pairwise(schedule.times(1000, 1000)):
        direction = posterior_mean(
            Prediction(torch.zeros(1), torch.ones(1), ABAR[t]), ABAR[s], sigma(1, ABAR[t], ABAR[s])
        )
        assert direction.isfinite()
