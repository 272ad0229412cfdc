"""What is known of images: each operator against its own matrix."""

import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from ddim.diffusion.operators import Blur, Colouring, Inpainting, SuperResolution
from ddim.errors import InputError

SHAPE = (3, 4, 6)
MASK = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) < 0.4
OPERATORS = [Inpainting(MASK), SuperResolution(2), Colouring(), Blur(0.6), Blur(1.5)]


def matrix(operator, shape=SHAPE) -> Tensor:
    """A as (K, D)."""
    unit = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).view(-1, *shape)
    return operator(unit).flatten(1).T


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: o.name)
def test_an_operator_is_its_matrix(operator):
    A, x = matrix(operator), noise(2, *SHAPE)
    y = operator(x)
    assert tuple(y.shape[1:]) == operator.shape(SHAPE)
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(y.flatten(1), x.flatten(1) @ A.T, **close)
    torch.testing.assert_close(operator.transpose(y).flatten(1), y.flatten(1) @ A, **close)
    torch.testing.assert_close(operator.inverse(y).flatten(1), y.flatten(1) @ torch.linalg.pinv(A).T, **close)
    for r2, s2 in ((0.7, 0.0), (0.7, 0.3), (torch.tensor([0.7, 0.2]).view(2, 1, 1, 1).double(), 0.3)):
        for k in range(2):
            r = r2 if isinstance(r2, float) else r2[k].item()
            exact = torch.linalg.pinv(r * A @ A.T + s2 * torch.eye(len(A)).double()) @ y[k].flatten()
            # What lies outside the range of A is nothing that an x could make up for.
            exact = A @ torch.linalg.pinv(A) @ exact
            torch.testing.assert_close(operator.solve(y, r2, s2)[k].flatten(), exact, **close)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: o.name)
def test_what_is_known_can_be_put_in(operator):
    x, other = noise(2, *SHAPE), noise(2, *SHAPE).flip(0)
    fixed = operator.fixed(other, operator(x))
    torch.testing.assert_close(operator(fixed), operator(x))
    A = matrix(operator)
    unknown = torch.eye(A.shape[1], dtype=torch.float64) - torch.linalg.pinv(A) @ A
    torch.testing.assert_close((fixed - other).flatten(1) @ unknown, torch.zeros(2, A.shape[1]).double())


def test_a_blur_is_that_of_other_programs():
    """Pillow's, in 8 bits: its inverse stays an image, at the edges too."""
    wave = torch.linspace(0, 9, 32).sin()[:, None] * torch.linspace(0, 7, 32).cos() * 90
    picture = (120 + wave + 3 * torch.arange(32)).round().to(torch.uint8)  # brighter at one edge than at the other
    blurred = torch.tensor(bytearray(Image.fromarray(picture.numpy()).filter(ImageFilter.GaussianBlur(1.5)).tobytes()))
    x, y = (values.reshape(1, 1, 32, 32).double() / 127.5 - 1 for values in (picture, blurred))
    assert (Blur(1.5)(x) - y).square().mean().sqrt() < 0.01
    assert (Blur(1.5).inverse(y) - Blur(1.5).inverse(Blur(1.5)(x))).abs().max() < 0.3  # over a torus, 2.0


def test_a_mask_is_black_or_white():
    for mask in (MASK, MASK.float(), MASK.to(torch.uint8) * 255, MASK[None], MASK[None, None]):
        assert torch.equal(Inpainting(mask).mask, MASK[None, None])
    masks = torch.stack([MASK, ~MASK, MASK])[:, None]
    assert torch.equal(Inpainting(masks).part([1, 1, 2]).mask, masks[[1, 1, 2]])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Inpainting(torch.zeros(4, 6)), "black all over"),
        (lambda: Inpainting(torch.ones(4, 6)), "white all over"),
        (lambda: Inpainting(torch.stack([MASK.float(), MASK.float() * 0])[:, None]), "black all over"),
        (lambda: Inpainting(MASK * 0.5), "grey values"),
        (lambda: Inpainting(MASK * 255).shape((1, 8, 8)), "the mask is 4×6 and the images 8×8"),
        (lambda: Inpainting(torch.full((4, 6), 255) - MASK.int()), "grey values"),
        (lambda: Inpainting(torch.rand(3, 4, 6)), "grey values|one channel"),
        (lambda: Inpainting(torch.full((4, 6), 128, dtype=torch.uint8)), "grey values"),
        (lambda: Inpainting("mask.png"), "a mask is a tensor"),
        (lambda: SuperResolution(4).shape(SHAPE), "factor 4 does not divide 4×6: give one of 2"),
        (lambda: SuperResolution(1), "factor must be at least 2; got 1"),
        (lambda: SuperResolution(2.5), "factor must be a whole number"),
        (lambda: Colouring().shape((1, 8, 8)), "only RGB images can be coloured; this model's have 1 channel"),
        (lambda: Blur(0), "sigma of a blur must be a number above 0; got 0"),
        (lambda: Blur("1"), "sigma of a blur must be a number above 0; got '1'"),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(InputError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)
