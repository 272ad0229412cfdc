"""Directions: against what they must be on data made for it."""

from itertools import pairwise

import pytest
import torch
from support.models import labelled_model, tiny_model
from support.oracles import Gaussian

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.directions import (
    Shifted,
    mean_difference,
    middle_along,
    moved,
    principal,
    separation,
)
from ddim.errors import InputError

X = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
PATH = schedule.times(1000, 4)


def test_middle_features_are_those_that_the_network_computes():
    model, seen = tiny_model(), []
    end, features = middle_along(model, X, PATH)
    torch.testing.assert_close(end, ddim.decode(model, X, steps=4))
    assert features.shape == (4, 6, 16, 4, 4)
    x = X
    for k, (t, s) in enumerate(pairwise(PATH)):
        handle = model.network.mid_block.register_forward_hook(lambda module, given, out: seen.append(out))
        x = ddim.decode(model, x, times=[t, s])
        handle.remove()
        torch.testing.assert_close(features[k], seen[-1].float(), rtol=1e-4, atol=1e-4)


def test_a_shift_of_the_middle_is_added_there_and_taken_away_after():
    """Added twice, halves are a whole; by the features' own difference, one image's middle becomes another's."""
    model = tiny_model()
    before = model(X, 500)
    _, features = middle_along(model, X, [500, 400])
    half = 0.5 * torch.ones(16, 4, 4)
    twice = Shifted(Shifted(model, lambda t: half), lambda t: half)
    assert torch.allclose(twice(X, 500).eps, Shifted(model, lambda t: 2 * half)(X, 500).eps, atol=1e-5)
    each = features[0].flip(0) - features[0]  # (N, c, h, w)
    seen = []
    handle = model.network.up_blocks[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    Shifted(model, lambda t: each)(X, 500)
    handle.remove()
    torch.testing.assert_close(seen[0], features[0].flip(0), rtol=1e-4, atol=1e-4)
    assert all(map(torch.equal, model(X, 500)[:3], before[:3]))
    assert all(map(torch.equal, Shifted(model, lambda t: None)(X, 500)[:3], before[:3]))


def test_a_shift_reaches_both_branches_of_guidance():
    model, each = labelled_model(), torch.randn(6, 16, 4, 4, generator=torch.Generator().manual_seed(1))
    found = Shifted(ddim.guided(model, 1, 2.0), lambda t: each)(X, 500).eps
    of_class = Shifted(ddim.guided(model, 1), lambda t: each)(X, 500).eps
    of_none = Shifted(model, lambda t: each)(X, 500).eps
    torch.testing.assert_close(found, of_none + 2 * (of_class - of_none), rtol=1e-4, atol=1e-4)


def test_principal_components_are_those_of_the_covariance():
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q
    widths = torch.tensor([5.0, 3.0, 2.0, *[0.5] * 13])
    values = (torch.randn(4000, 16, generator=generator) * widths) @ axes.T + 7
    found = principal(values.view(4000, 1, 4, 4), 3)
    exact = torch.linalg.eigh(values.double().T.cov())
    torch.testing.assert_close(found.deviations.double(), exact.eigenvalues.flip(0)[:3].sqrt(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        found.shares, (exact.eigenvalues.flip(0) / exact.eigenvalues.sum())[:3], rtol=1e-3, atol=0
    )
    for k in range(3):
        component = found.components[k].flatten()
        assert abs(component.norm() - 1) < 1e-5
        assert abs(component @ axes[:, k]) > 0.99
        assert component[component.abs().argmax()] > 0
    noise = principal(torch.randn(300, 1, 8, 8, generator=generator), 2)
    assert abs(noise.shares[0] / noise.white[0] - 1) < 0.1  # white noise looks white


def test_the_mean_difference_separates_and_chance_does_not():
    generator = torch.Generator().manual_seed(0)
    of, shift = torch.arange(200) % 2 == 0, torch.zeros(1, 4, 4)
    shift[0, 1, 2] = 2.0
    values = torch.randn(200, 1, 4, 4, generator=generator) + of.view(-1, 1, 1, 1) * shift
    first = torch.arange(200) < 100
    direction = mean_difference(values[first], of[first])
    assert (direction - shift).abs().max() < 0.8
    assert 1.0 < separation(values[~first], of[~first], direction) < 2.5
    noise = torch.randn(200, 1, 4, 4, generator=generator)
    chance = mean_difference(noise[first], of[first])
    assert separation(noise[first], of[first], chance) > 0.6  # on those that it was found from, even noise separates
    assert abs(separation(noise[~first], of[~first], chance)) < 0.5
    stacked = torch.stack([values, 2 * values])
    torch.testing.assert_close(mean_difference(stacked, of)[1], 2 * mean_difference(values, of))


def test_moved_latents_stay_on_their_sphere():
    far = moved(X, torch.ones(1, 8, 8), 5.0)
    torch.testing.assert_close(far.flatten(1).norm(dim=1), X.flatten(1).norm(dim=1))
    assert torch.equal(moved(X, torch.ones(1, 8, 8), 0.0), X)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: middle_along(Gaussian(schedule.linear(), 0, 1), X, PATH), "middle features need a model with a U-Net"),
        (lambda: mean_difference(X, torch.ones(6, dtype=torch.bool)), "images of both kinds"),
        (lambda: principal(X, 6), "6 images have 5 components at most; asked for 6"),
        (lambda: principal(X, 0), "components must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(call, said):
    with pytest.raises(InputError, match=said):
        call()
