"""Varying images, and changing their class: against closed forms."""

import pytest
import torch
from support.models import known_classes, labelled_model, tiny_model
from support.oracles import Gaussian

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.noise import normal
from ddim.diffusion.restoration import OWN
from ddim.errors import InputError

ABAR = schedule.linear()
VARIANCE = torch.tensor(0.02, dtype=torch.float64)
MEANS = torch.tensor([-0.4, 0.3, 0.1], dtype=torch.float64).view(3, 1, 1, 1).expand(3, 1, 2, 2)
CLASSES = [Gaussian(ABAR, mean, VARIANCE) for mean in MEANS]
X = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_varied_images_are_where_the_flow_leads_from_the_noisy_ones():
    model = Gaussian(ABAR, torch.tensor(0.1).double(), VARIANCE)
    x = (0.1 + 0.1 * normal(5, range(4), (1, 2, 2))).double()
    for strength in (0.1, 0.5, 1.0):
        t = round(strength * 1000)
        noisy = ABAR[t].sqrt() * x + (1 - ABAR[t]).sqrt() * normal(0, range(4), (1, 2, 2), OWN)
        found = ddim.vary(model, x, strength, steps=100)
        torch.testing.assert_close(found, model.flow(noisy, t, 0).clamp(-1, 1), rtol=0, atol=5e-3)
    assert torch.equal(ddim.vary(model, x, 0), x)


def test_the_more_strength_the_less_is_left_of_the_image():
    """Of data N(0, v), an image at d comes back to √ᾱ d √(v/(ᾱ v + 1 − ᾱ)) on average: the flow of √ᾱ d."""
    model = Gaussian(ABAR, torch.tensor(0.0).double(), VARIANCE)
    x = torch.full((1, 1, 2, 2), 0.4).double()
    for strength in (0.02, 0.1, 0.3):
        abar = ABAR[round(1000 * strength)]
        left = (ddim.vary(model, x, strength, answers=1000, steps=100).mean() / 0.4).item()
        assert abs(left - abar.sqrt() * (VARIANCE / (abar * VARIANCE + 1 - abar)).sqrt()) < 0.02


def test_the_noise_is_not_the_one_that_an_image_was_sampled_from():
    """Else a sample of the same seed would come back at strength 1."""
    model = tiny_model()
    x = ddim.sample(model, n=3, steps=5, solver="ddim", clip=False)
    for made in (
        ddim.vary(model, x, 1.0, steps=5, solver="ddim", clip=False),
        ddim.restore(model, x[:, :, ::2, ::2] * 0, ddim.operators.SuperResolution(2), steps=5, eta=0, clip=False),
    ):
        assert (made - x).square().mean().sqrt() > 0.3


def test_another_class_is_a_shift_between_gaussians():
    """Latents keep the place in standard deviations: x goes to x + s (m_b − m_u) + m_u − m_a under guidance s."""
    model = known_classes(*CLASSES)  # classes a and b, and no class
    x = (MEANS[0] + 0.1 * normal(5, range(3), (1, 2, 2))).double()
    for strength, within in ((1.0, 0.005), (0.7, 0.03)):  # below T, a part of the mean is not yet forgotten
        found = ddim.relabel(model, x, "a", "b", strength=strength, steps=200, spacing="quadratic", solver="heun")
        torch.testing.assert_close(found, x + MEANS[1] - MEANS[0], rtol=0, atol=within)
    same = ddim.relabel(model, x, "a", "a", steps=200, solver="exact")
    torch.testing.assert_close(same, x, rtol=0, atol=1e-6)
    led = ddim.relabel(model, x, "a", "b", 1.5, steps=200, spacing="quadratic", solver="heun")
    torch.testing.assert_close(led, x + MEANS[2] + 1.5 * (MEANS[1] - MEANS[2]) - MEANS[0], rtol=0, atol=0.005)
    each = ddim.relabel(model, x, [0, 0, 1], [1, 0, 1], steps=50, solver="exact")
    torch.testing.assert_close(each[1:], x[1:], rtol=0, atol=1e-6)
    assert (each[0] - x[0]).abs().mean() > 0.5


def test_answers_do_not_depend_on_the_batch_nor_on_how_many():
    model, labels = labelled_model(), ["dog", "cat", "ship"]
    how = {"steps": 4, "label": labels, "guidance": 2.0, "seed": 3, "eta": 1.0, "solver": "ddim"}
    four = ddim.vary(model, X, 0.6, answers=4, batch_size=12, **how)
    torch.testing.assert_close(ddim.vary(model, X, 0.6, answers=4, batch_size=5, **how), four, rtol=0, atol=1e-5)
    two = ddim.vary(model, X, 0.6, answers=2, **how).view(3, 2, 1, 8, 8)
    torch.testing.assert_close(two, four.view(3, 4, 1, 8, 8)[:, :2], rtol=0, atol=1e-5)
    assert (four[0] - four[1]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: ddim.vary("digits", X), "a model is what ddim.load gives"),
        (lambda m: ddim.vary(m, X, 1.5), "strength must be from 0 .* to 1 .*; got 1.5"),
        (lambda m: ddim.vary(m, X, "half"), "got 'half'"),
        (lambda m: ddim.vary(m, X[:, :, 1:]), r"images must be \(N, 1, 8, 8\)"),
        (lambda m: ddim.vary(m, X / 0), "hold NaN or infinity"),
        (lambda m: ddim.vary(m, X, answers=0), "answers must be at least 1"),
        (lambda m: ddim.vary(m, X, steps=0), "steps must be"),
        (lambda m: ddim.vary(m, X, solver="heun", eta=1), "solver heun takes no noise"),
        (lambda m: ddim.vary(m, X, label=[0, 1]), "knows no classes"),
        (lambda m: ddim.vary(m, X, guidance=2), "leads towards a class"),
        (lambda m: ddim.relabel(m, X, 0, 1), "knows no classes"),
        (lambda m: ddim.relabel(m, X, None, None), "name the class"),
        (lambda m: ddim.relabel(labelled_model(), X, "cat", "do"), "unknown class 'do': .* did you mean dog"),
        (lambda m: ddim.relabel(labelled_model(), X, "cat", "dog", strength=0), "strength must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(call, said):
    with pytest.raises(InputError, match=said) as caught:
        call(tiny_model())
    assert "\n" not in str(caught.value)
