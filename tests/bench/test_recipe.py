"""What the comparison of recipes changes in the loss is what it says."""

import argparse
import itertools
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.models import tiny_model
from torch import nn

from ddim.diffusion.process import marginal

sys.path.append(str(Path(__file__).parents[2] / "bench"))

import recipe
from recipe import Loss, Recipe, near

T = 50
ABAR = torch.linspace(1, 0.01, T + 1, dtype=torch.float64)


def batch(n: int = 6):
    """x0, uniform times, eps."""
    generator = torch.Generator().manual_seed(3)
    x0, eps = (torch.randn(n, 1, 2, 2, generator=generator) for _ in range(2))
    return x0, torch.randint(1, T + 1, (n,), generator=generator), eps


class Fixed(nn.Module):
    """A network whose answer is given."""

    def __init__(self, answer: torch.Tensor):
        super().__init__()
        self.answer = answer

    def forward(self, x, index):
        return self.answer


def test_noises_are_assigned_at_the_least_sum_of_squares():
    x0, _, eps = batch(5)
    sums = {p: (x0 - eps[list(p)]).square().sum().item() for p in itertools.permutations(range(5))}
    best = min(sums, key=sums.get)
    assert best != tuple(range(5))
    assert torch.equal(near(x0, eps), eps[list(best)])


def test_min_snr_weighs_the_loss_of_x0_by_at_most_gamma():
    x0, times, eps = batch()
    out = torch.zeros_like(eps)
    level = ABAR.float()[times]
    snr = level / (1 - level)
    of_x0 = eps.square().mean((1, 2, 3)) / snr  # of x_0 as a network of zeros predicts it
    want = (of_x0 * snr.clamp(max=5)).mean()
    assert (snr > 5).any()
    assert (snr < 5).any()
    assert Loss(Recipe(snr=5.0), ABAR)(Fixed(out), 1, x0, times, eps).item() == pytest.approx(want.item(), rel=1e-5)
    plain = Loss(Recipe(), ABAR)(Fixed(out), 1, x0, times, eps)
    assert plain.item() == pytest.approx(eps.square().mean().item(), rel=1e-5)


def test_a_network_of_v_has_no_loss_where_its_model_finds_the_noise():
    x0, times, eps = batch(1)
    level = ABAR[times].float()[:, None, None, None]
    v = level.sqrt() * eps - (1 - level).sqrt() * x0
    assert Loss(Recipe(predicts="v"), ABAR)(Fixed(v), 1, x0, times, eps).item() == pytest.approx(0, abs=1e-10)
    model = replace(tiny_model(), abar=ABAR, predicts="v", network=nn.ModuleList([Fixed(v), nn.Linear(1, 1)])[0])
    model.network.register_parameter("weight", nn.Parameter(torch.zeros(1)))
    found = model(marginal(x0, eps, level), int(times))
    assert torch.allclose(found.eps, eps, atol=1e-5)


def test_times_are_drawn_as_they_are_called():
    loss = Loss(Recipe(times="logit-normal"), ABAR)
    drawn = torch.cat([loss.times(step, torch.ones(64)) for step in range(200)]).double()
    assert drawn.min() >= 1
    assert drawn.max() <= T
    assert drawn.median().item() == pytest.approx(T / 2, abs=1.5)
    inner = ((drawn > T / 4) & (drawn <= 3 * T / 4)).double().mean().item()
    assert inner == pytest.approx(0.728, abs=0.03)  # P(|N(0, 1)| < log 3)
    assert torch.equal(Loss(Recipe(), ABAR).times(1, torch.arange(1, 5)), torch.arange(1, 5))


def test_batches_grow_and_equal_times_see_their_images(monkeypatch):
    """Each size of batch has a third of the images; the average is over its share of the steps."""
    monkeypatch.setattr(recipe, "SHARES", {"1/30": 1 / 30})
    how = argparse.Namespace(ch=16, lr=1e-3)
    images = torch.randint(256, (200, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    run, sizes = recipe.Training(Recipe(batches=(2, 4, 8)), images, 48, how), []
    while run.seen < 48:
        sizes.append(run.size())
        run.advance()
    assert sizes == [2] * 8 + [4] * 4 + [8] * 2
    assert run.step == 14
    trained = recipe.trained(Recipe(batches=(2, 4, 8)), images, 48, how)["1/30"]
    ours, theirs = trained.network.state_dict(), run.averages["1/30"].module.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
