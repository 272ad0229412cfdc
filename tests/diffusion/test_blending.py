"""From class to class: between two Gaussians of one variance, each fraction samples the Gaussian between."""

import pytest
import torch
from support.models import known_classes, labelled_model, tiny_model
from support.oracles import Gaussian

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.noise import normal
from ddim.errors import InputError

ABAR = schedule.linear()
VARIANCE = torch.tensor(0.02, dtype=torch.float64)
MEANS = torch.tensor([-0.4, 0.3, 0.1], dtype=torch.float64).view(3, 1, 1, 1).expand(3, 1, 2, 2)
CLASSES = [Gaussian(ABAR, mean, VARIANCE) for mean in MEANS]
X = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_fraction_between_two_gaussians_is_the_gaussian_between():
    model, f = known_classes(*CLASSES), torch.tensor([0.0, 0.25, 0.5, 1.0])
    z = normal(0, range(4), (1, 2, 2)).double()
    found = ddim.decode(ddim.between(model, "a", "b", f), z, steps=200, spacing="quadratic", solver="heun")
    for k, part in enumerate(f.tolist()):
        right = Gaussian(ABAR, torch.lerp(MEANS[0], MEANS[1], part), VARIANCE).flow(z[k], 1000, 0)
        torch.testing.assert_close(found[k], right, rtol=0, atol=2e-3)


def test_the_ends_are_the_classes_bit_for_bit():
    model = labelled_model()
    mixed = ddim.between(model, "cat", "ship", [0, 0.5, 1, 0.2], 2.0)(X, 500)
    a, b = (ddim.guided(model, label, 2.0) for label in ("cat", "ship"))
    assert torch.equal(mixed.eps[0], a(X, 500).eps[0])
    assert torch.equal(mixed.eps[2], b(X, 500).eps[2])
    torch.testing.assert_close(mixed.eps[1], (a(X, 500).eps + b(X, 500).eps)[1] / 2)
    for f, end in ((0, a), (1, b)):
        assert all(map(torch.equal, ddim.between(model, "cat", "ship", f, 2.0)(X, 500)[:2], end(X, 500)[:2]))


def test_images_from_label_to_label_begin_and_end_as_they_were():
    model, x = labelled_model(), X[:2].clamp(-1, 1)
    ends = [
        ddim.encode(ddim.guided(model, label), x[k : k + 1], 20, solver="implicit") for k, label in enumerate((0, 2))
    ]
    made = ddim.interpolate(ddim.between(model, 0, 2, torch.linspace(0, 1, 5)), *ends, 5, 20, clip=False)
    assert (made[[0, 4]] - x).abs().max() < 0.05
    assert (made[2] - x).abs().mean() > 0.1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: ddim.between(m, 0, 1, 1.5), "fractions are numbers from 0"),
        (lambda m: ddim.between(m, 0, 1, []), "fractions are numbers from 0"),
        (lambda m: ddim.between(m, 0, "cow", 0.5), "unknown class 'cow'"),
        (lambda m: ddim.between(tiny_model(), 0, 1, 0.5), "knows no classes"),
        (lambda m: ddim.between(m, 0, 1, [0, 0.5, 1])(X, 5), "3 fractions for 4 images"),
    ],
)
def test_what_cannot_be_is_refused(call, said):
    with pytest.raises(InputError, match=said):
        call(labelled_model())
