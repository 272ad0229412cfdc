"""Classifier guidance: with an exact classifier it samples the exact conditional."""

import pytest
import torch
from support.models import tiny_model
from support.oracles import Gaussian, Mixture
from torch import Tensor

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.schedule import level
from ddim.errors import InputError

ABAR = schedule.linear()
MEANS = torch.tensor([[-0.7, -0.6], [-0.1, 0.7], [0.7, 0.2]], dtype=torch.float64).view(3, 1, 1, 2)
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MIXTURE = Mixture(ABAR, WEIGHTS, MEANS, 0.02)
SOFT = torch.tensor([0.1, 0.6, 0.9], dtype=torch.float64)  # p(y | component)


def responsibilities(x: Tensor, t) -> Tensor:
    """log p(component | x_t), (N, 3)."""
    abar = level(ABAR, t)
    total = abar * MIXTURE.variance + 1 - abar
    off = (x[:, None] - abar.sqrt() * MEANS).flatten(2).square().sum(2)
    return (WEIGHTS.log() - off / (2 * total)).log_softmax(1)


def log_soft(x: Tensor, t) -> Tensor:
    return (responsibilities(x, t) + SOFT.log()).logsumexp(1)


def test_the_prediction_is_the_one_of_the_conditional():
    """At every level: a component by its own oracle, a mixture with other weights by that mixture."""
    x = torch.randn(6, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chosen = torch.tensor([0, 1, 2, 2, 1, 0])
    one = ddim.steered(MIXTURE, lambda x, t: responsibilities(x, t)[torch.arange(len(x)), chosen])
    soft = ddim.steered(MIXTURE, log_soft)
    posterior = Mixture(ABAR, WEIGHTS * SOFT / (WEIGHTS @ SOFT), MEANS, 0.02)
    for t in (1, 200.5, 600, 1000):
        right = [Gaussian(ABAR, m, torch.tensor(0.02).double())(x, t) for m in MEANS]
        exact = torch.stack([right[c].eps[k] for k, c in enumerate(chosen)])
        torch.testing.assert_close(one(x, t).eps, exact, rtol=1e-5, atol=1e-6)
        for found, expected in zip(soft(x, t), posterior(x, t), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("solver", "eta"), [("ddim", 0), ("ddim", 1), ("unipc", 0), ("heun", 0)])
def test_samples_have_the_right_modes_with_the_right_weights(solver: str, eta: float):
    model = ddim.steered(MIXTURE, log_soft)
    made = ddim.sample(model, n=2000, steps=60, solver=solver, eta=eta, shape=(1, 1, 2), spacing="quadratic")
    which = MIXTURE.nearest(made.double())
    exact = WEIGHTS * SOFT / (WEIGHTS @ SOFT)  # 0.122, 0.439, 0.439; without the classifier 0.5, 0.3, 0.2
    for k in range(3):
        assert abs((which == k).double().mean() - exact[k]) < 0.04  # a share of 2,000 is known to 0.011
        assert (made[which == k].mean(0) - MEANS[k]).abs().max() < 0.04


def test_a_scale_of_0_is_the_model_and_so_is_a_time_outside_the_interval():
    x = torch.randn(3, 1, 1, 2, dtype=torch.float64)
    model = ddim.steered(MIXTURE, log_soft, 2.0, (100, 300))
    assert all(map(torch.equal, ddim.steered(MIXTURE, log_soft, 0)(x, 50)[:3], MIXTURE(x, 50)))
    assert all(map(torch.equal, model(x, 301)[:3], MIXTURE(x, 301)))
    plain, once = MIXTURE(x, 200).eps, ddim.steered(MIXTURE, log_soft)(x, 200).eps
    torch.testing.assert_close(model(x, 200).eps - plain, 2 * (once - plain))


def test_it_is_a_model_for_encoding_and_interpolation():
    model = ddim.steered(tiny_model(), lambda x, t: -(x.mean((1, 2, 3)) ** 2))
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    z = ddim.encode(model, x, steps=5, solver="exact")
    assert (ddim.decode(model, z, steps=5) - x).abs().max() < 1e-3
    assert ddim.interpolate(model, z[0][:1], z[0][1:], frames=3, steps=3).shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    ("log_p", "said"),
    [
        ("p", r"log_p is a function \(x, t\) -> \(N,\); got 'p'"),
        (lambda x, t: x, r"one number for each image, with its gradient; got \(2, 1, 8, 8\)"),
        (lambda x, t: x.detach().sum((1, 2, 3)), r"got \(2,\) without gradient"),
        (lambda x, t: 3, "got 3"),
    ],
)
def test_what_is_no_classifier_is_refused(log_p, said):
    with pytest.raises(InputError, match=said):
        ddim.sample(ddim.steered(tiny_model(), log_p), n=2, steps=2)
