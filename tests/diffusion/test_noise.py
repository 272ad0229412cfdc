import time

import numpy as np
import pytest
import torch

from ddim.diffusion.noise import ahead, draws, normal
from ddim.errors import InputError

SHAPE = (3, 8, 8)


def test_an_image_does_not_depend_on_its_batch():
    together = normal(5, range(16), SHAPE)
    alone = torch.cat([normal(5, [k], SHAPE) for k in reversed(range(16))]).flip(0)
    assert torch.equal(together, alone)
    assert torch.equal(normal(5, [9, 3], SHAPE, draw=7), normal(5, range(16), SHAPE, draw=7)[[9, 3]])


def test_the_stream_is_the_draws_in_order():
    stream = draws(2, [0, 4], SHAPE)
    for draw in range(1, 5):
        assert torch.equal(next(stream), normal(2, [0, 4], SHAPE, draw))


def test_bits_are_pinned():
    """The noise of a seed is a promise: numpy's documented Philox and ziggurat, on every machine."""
    reference = np.random.Generator(np.random.Philox(key=[0, 1], counter=[0, 0, 0, 2])).standard_normal(192, np.float32)
    assert np.array_equal(normal(0, [1], SHAPE, draw=2).numpy().ravel(), reference)
    np.testing.assert_array_equal(
        normal(0, [0], (3,)).numpy()[0],
        np.array([0.059911035001277924, 0.015559634193778038, -1.1644384860992432], dtype=np.float32),
    )


def test_streams_are_independent_and_normal():
    """Images, draws and seeds: every pair of streams is uncorrelated, and each is N(0, 1)."""
    shape = (100_000,)
    rows = torch.cat(
        [normal(0, range(4), shape), normal(1, range(4), shape), *(normal(0, range(4), shape, d) for d in (1, 2, 500))]
    )  # (20, 100000)
    correlation = torch.corrcoef(rows) - torch.eye(len(rows))
    assert correlation.abs().max() < 5 / 100_000**0.5
    assert rows.mean(1).abs().max() < 5 / 100_000**0.5
    assert (rows.var(1) - 1).abs().max() < 5 * (2 / 100_000) ** 0.5
    assert abs((rows**4).mean() - 3) < 0.05


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range(seed: int):
    with pytest.raises(InputError, match="seed"):
        normal(seed, [0], SHAPE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_gets_the_same_bits():
    like = torch.empty(0, device="cuda")
    assert torch.equal(next(draws(0, [0], SHAPE, like=like)).cpu(), next(draws(0, [0], SHAPE)))


def test_ahead_is_map_with_one_result_in_advance():
    asked = []

    def square(k: int) -> int:
        asked.append(k)
        return k * k

    results = ahead(square, range(4))
    assert next(results) == 0
    while len(asked) < 2:  # the next one is being computed without being asked for
        time.sleep(0.001)
    assert asked == [0, 1]
    assert list(results) == [1, 4, 9]
    assert list(ahead(square, [])) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_noise_sent_ahead_is_the_same_noise():
    plain, sent = draws(1, [3, 4], (1, 2, 2)), draws(1, [3, 4], (1, 2, 2), like=torch.empty(0, device="cuda"))
    for _ in range(5):
        assert torch.equal(next(plain), next(sent).cpu())
