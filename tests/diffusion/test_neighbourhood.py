"""Neighbours in the latent space, and the sheets that choices lead to."""

import math

import pytest
import torch
from support.models import tiny_model

import ddim
from ddim.diffusion.neighbourhood import nearby, neighbours
from ddim.diffusion.noise import normal


def test_neighbours_lie_on_the_way_to_noises_of_their_own():
    """Against the formula D.5 in float64, computed here."""
    z, seed, far = normal(3, [7], (1, 8, 8)), 4, 0.25
    found = neighbours(z, 5, far, seed)
    assert torch.equal(found[:1], z)
    for k in range(1, 5):
        u, v = z[0].double().flatten(), normal(seed, [k], (1, 8, 8))[0].double().flatten()
        theta = math.acos(float(u @ v / (u.norm() * v.norm())))
        want = (math.sin((1 - far) * theta) * u + math.sin(far * theta) * v) / math.sin(theta)
        assert (found[k].double().flatten() - want).abs().max() < 1e-6


def test_neighbours_keep_the_distribution_of_noise():
    z = neighbours(normal(0, [0], (1, 64, 64)), 200, 0.5, 1)[1:]
    assert abs(z.mean()) < 0.02
    assert abs(z.std() - 1) < 0.02
    assert torch.equal(neighbours(z[:1], 3, 0.0), z[:1].expand(3, -1, -1, -1))
    assert torch.allclose(neighbours(z[:1], 3, 1.0, 9)[1:], normal(9, [1, 2], (1, 64, 64)), atol=1e-6)


def test_choices_lead_from_sheet_to_sheet():
    model = tiny_model()
    first = nearby(model, n=4, seed=5)
    assert torch.equal(first, normal(5, range(4), model.shape))
    second = nearby(model, [2], 0.4, 4, 5)
    assert torch.equal(second, neighbours(first[2:3], 4, 0.4, 6))
    assert torch.equal(nearby(model, [2, 0], [0.4, 0.1], 4, 5), neighbours(second[:1], 4, 0.1, 7))
    assert torch.equal(ddim.nearby(model, [2, 0], 0.4, 4, 5)[0], second[0])  # the chosen one stays, first


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"choices": [4]}, "numbers 0 to 3; 4 was chosen"),
        ({"choices": [-1]}, "a choice must be at least 0"),
        ({"choices": [1], "distance": 1.5}, "a distance is a number from 0 to 1; got 1.5"),
        ({"choices": [1, 1], "distance": [0.5]}, "1 distances for 2 choices"),
        ({"choices": 3}, "choices must be a list; got 3"),
    ],
)
def test_what_cannot_be_explored_is_one_line(how: dict, line: str):
    with pytest.raises(ddim.InputError, match=line):
        nearby(tiny_model(), n=4, **how)
