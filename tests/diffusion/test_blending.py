"""From class to class: between two Gaussians of one variance, each fraction samples the Gaussian between."""

import pytest
import torch
from support.models import known_classes, labelled_model, tiny_model
from support.oracles import Gaussian

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.blending import among
from ddim.diffusion.interpolation import places_between
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


def test_from_label_to_label_between_two_gaussians_is_the_gaussian_between():
    """Each frame is the latent between, carried by the exact ODE of the Gaussian between."""
    model, z = known_classes(*CLASSES), normal(0, range(2), (1, 2, 2)).double()
    how = {"steps": 200, "spacing": "quadratic", "solver": "heun", "label": ("a", "b")}
    found = ddim.interpolate(model, z[:1], z[1:], 5, **how)
    along = ddim.slerp(z[:1], z[1:], torch.linspace(0, 1, 5))
    for k in range(5):
        right = Gaussian(ABAR, torch.lerp(MEANS[0], MEANS[1], k / 4), VARIANCE).flow(along[k], 1000, 0)
        torch.testing.assert_close(found[k], right, rtol=0, atol=2e-3)


def test_over_a_sheet_of_four_labels_all_are_mixed_by_their_place():
    model = labelled_model()
    places = places_between(4, 3)
    assert places.tolist() == [[i / 2, j / 2] for i in range(3) for j in range(3)]
    x = X[:1].expand(9, -1, -1, -1)
    found = among(model, [0, 1, 2, 2], places, 2.0)(x, 500).eps
    corners = [ddim.guided(model, k, 2.0)(x, 500).eps[0] for k in (0, 1, 2, 2)]
    for row, (down, across) in zip(found, places.tolist(), strict=True):
        top = (1 - across) * corners[0] + across * corners[1]
        torch.testing.assert_close(row, (1 - down) * top + down * corners[2])
    assert torch.equal(found[0], corners[0])
    alike = among(model, [1, 1, 1, 1], places, 2.0)
    assert torch.equal(alike(x, 500).eps, ddim.guided(model, 1, 2.0)(x, 500).eps)


def test_exact_pairs_of_two_labels_come_back_at_the_ends():
    model, x = labelled_model(), X[:2].clamp(-1, 1)
    labels = ["cat", "ship"]
    z, behind = ddim.encode(ddim.guided(model, labels, 1.5), x, 20, "quadratic", solver="exact")
    ends = [(z[k : k + 1], behind[k : k + 1]) for k in range(2)]
    how = {"frames": 5, "steps": 20, "spacing": "quadratic"}
    made = ddim.interpolate(model, *ends, **how, label=labels, guidance=1.5)
    torch.testing.assert_close(made[[0, 4]].float(), x, rtol=0, atol=1e-3)
    other = ddim.interpolate(model, *ends, **how, label="cat", guidance=1.5)
    assert (made - other).abs().amax((1, 2, 3))[2:].min() > 1e-3


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: ddim.between(m, 0, 1, 1.5), "fractions are numbers from 0"),
        (lambda m: ddim.between(m, 0, 1, []), "fractions are numbers from 0"),
        (lambda m: ddim.between(m, 0, "cow", 0.5), "unknown class 'cow'"),
        (lambda m: ddim.between(tiny_model(), 0, 1, 0.5), "knows no classes"),
        (lambda m: ddim.between(m, 0, 1, [0, 0.5, 1])(X, 5), "3 fractions for 4 images"),
        (lambda m: ddim.interpolate(m, X[:1], X[1:2], label=("cat", "dog", "ship")), "3 labels for 2 images"),
        (lambda m: ddim.interpolate(m, X[:1], X[1:2], label=("cat", "cow")), "unknown class 'cow'"),
    ],
)
def test_what_cannot_be_is_refused(call, said):
    with pytest.raises(InputError, match=said):
        call(labelled_model())
