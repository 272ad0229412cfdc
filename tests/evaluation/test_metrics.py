import os

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from ddim import images as data
from ddim.errors import InputError
from ddim.evaluation import features, metrics
from ddim.evaluation.metrics import Statistics


class Linear:
    """Stands for a feature network: a fixed linear map of the pixels."""

    name, hash = "linear", "0"

    def __init__(self, pixels: int, width: int):
        self.weight = torch.randn(pixels, width, generator=torch.Generator().manual_seed(1)) / 255
        self.calls = 0

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return pictures.flatten(1).float() @ self.weight


def gaussian(seed: int, width: int = 6) -> Statistics:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return Statistics(torch.randn(width, generator=generator, dtype=torch.float64), root @ root.T)


def pictures(n: int, seed: int = 0, size: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (n, 1, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_fid_is_the_closed_form_of_two_gaussians():
    for seed in range(5):
        a, b = gaussian(seed), gaussian(seed + 100)
        root = sqrtm(a.sigma.numpy() @ b.sigma.numpy()).real
        mean = (a.mu - b.mu).square().sum()
        expected = mean + a.sigma.trace() + b.sigma.trace() - 2 * np.trace(root)
        assert metrics.fid(a, b) == pytest.approx(expected.item(), rel=1e-9)


def test_fid_of_drawn_gaussian_features_approaches_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    # Diagonal covariances: FID = Σ (m − m')² + (s − s')².
    m, s = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([1.0, 0.5, 2.0])
    a = Statistics.of(torch.randn(200_000, 3, generator=generator))
    b = Statistics.of(m + s * torch.randn(200_000, 3, generator=generator))
    assert metrics.fid(a, b) == pytest.approx((m.square() + (1 - s) ** 2).sum().item(), rel=0.01)


def test_fid_of_a_set_with_itself_is_zero_to_rounding():
    network = features.find("digits-small")
    known = metrics.statistics(network, data.load(data.find("digits", 8, 1)))
    assert abs(metrics.fid(known, known)) < 1e-9 * known.sigma.trace()


def test_statistics_are_numpys_in_float64_whatever_the_batch_size():
    x, network = pictures(101), Linear(16, 5)
    values = network(x).double().numpy()
    for batch_size in (1, 7, 256):
        known = metrics.statistics(network, x, batch_size=batch_size)
        assert known.mu.dtype == known.sigma.dtype == torch.float64
        assert np.allclose(known.mu, values.mean(0), rtol=0, atol=1e-7)
        assert np.allclose(known.sigma, np.cov(values, rowvar=False), rtol=0, atol=1e-7)
        assert known.n == 101
    direct = Statistics.of(torch.from_numpy(values))
    assert torch.allclose(direct.mu, known.mu)
    assert torch.allclose(direct.sigma, known.sigma)


def test_a_set_too_large_for_memory_is_streamed(tmp_path):
    from ddim import plots as plot

    x, network = pictures(23, size=8), Linear(64, 5)
    for k, picture in enumerate(x):
        plot.save(plot.to_pil(picture), tmp_path / f"{k:03d}.png")
    streamed = metrics.statistics(network, data.find(str(tmp_path), 8, 1), batch_size=10)
    whole = metrics.statistics(network, x)
    assert torch.allclose(streamed.mu, whole.mu, rtol=0, atol=1e-6)
    assert torch.allclose(streamed.sigma, whole.sigma, rtol=0, atol=1e-6)


def test_statistics_are_cached_by_content(tmp_path):
    x, network = pictures(30), Linear(16, 5)
    first = metrics.statistics(network, x, tmp_path)
    calls = network.calls
    again = metrics.statistics(network, x.clone(), tmp_path)
    assert network.calls == calls
    assert torch.equal(again.sigma, first.sigma)
    assert torch.equal(again.features, first.features)
    assert again.n == 30
    x[0, 0, 0, 0] ^= 1
    changed = metrics.statistics(network, x, tmp_path)
    assert network.calls > calls
    assert not torch.equal(changed.mu, first.mu)
    for file in tmp_path.iterdir():  # one that is not whole is made again
        file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(metrics.statistics(network, x, tmp_path).mu, changed.mu)


def test_kid_is_the_unbiased_cubic_mmd():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(40, 5, generator=generator, dtype=torch.float64) + 0.5
    mean, deviation = metrics.kid(Statistics.of(x), Statistics.of(y))

    def kernel(a, b):
        return (a.float().double() @ b.float().double().T / 5 + 1) ** 3

    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    expected = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (40 * 39) - 2 * xy.mean()
    assert mean == pytest.approx(expected.item(), rel=1e-9)  # a subset of everything is everything
    assert deviation < 1e-9
    before = torch.random.get_rng_state()
    assert metrics.kid(Statistics.of(x), Statistics.of(y), size=20) == metrics.kid(
        Statistics.of(x), Statistics.of(y), size=20
    )
    assert torch.equal(torch.random.get_rng_state(), before)


def test_precision_and_recall_are_those_of_brute_force():
    generator = torch.Generator().manual_seed(0)
    real, fake = (
        torch.randn(50, 3, generator=generator),
        torch.randn(40, 3, generator=generator) + torch.tensor([1.5, 0, 0]),
    )

    def covered(points, centres, k=3):
        distance = np.linalg.norm(centres[:, None] - centres[None], axis=2)
        radii = np.sort(distance, axis=1)[:, k]
        return np.mean([(np.linalg.norm(centres - p, axis=1) <= radii).any() for p in points])

    precision, recall = metrics.precision_recall(Statistics.of(real), Statistics.of(fake))
    assert precision == pytest.approx(covered(fake.numpy(), real.numpy()))
    assert recall == pytest.approx(covered(real.numpy(), fake.numpy()))
    assert 0.1 < recall < 0.95
    assert 0.1 < precision < 0.95


def test_npz_goes_both_ways(tmp_path):
    known = Statistics.of(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)))
    metrics.write(known, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        assert sorted(file.files) == ["mu", "sigma"]
        assert np.allclose(file["sigma"], np.cov(known.features.numpy(), rowvar=False))
    back = metrics.read(tmp_path / "a.npz")
    assert torch.equal(back.mu, known.mu)
    assert torch.equal(back.sigma, known.sigma)
    assert back.features is None
    assert metrics.kid(back, known) is None
    assert metrics.precision_recall(back, known) is None
    assert abs(metrics.fid(back, known)) < 1e-9


def test_neighbours_are_those_of_brute_force():
    x, training = pictures(3), pictures(5000, seed=1)
    training[4321] = x[2]
    index, distance = metrics.neighbours(x, training, 4)
    every = (x[:, None].double() - training[None].double()).square().mean(dim=(2, 3, 4)).sqrt()
    assert torch.equal(index, every.argsort(dim=1)[:, :4])
    assert torch.allclose(distance.double(), every.sort(dim=1).values[:, :4], atol=0.05)
    assert index[2, 0] == 4321


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match="2 images or more; got 1"):
        metrics.statistics(Linear(16, 5), pictures(1))
    with pytest.raises(InputError, match=r"width 5 do not compare with a reference of width 4.*--features"):
        metrics.fid(gaussian(0, 4), gaussian(0, 5))
    with pytest.raises(InputError, match="no such file"):
        metrics.read(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", mean=np.zeros(3), arr_0=np.zeros(3))
    with pytest.raises(InputError, match="not statistics: its keys are mean, arr_0; known are mu and sigma"):
        metrics.read(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", mu=np.array([object()]), sigma=np.zeros((1, 1)))
    with pytest.raises(InputError, match=r"not an \.npz file \(Object arrays"):
        metrics.read(tmp_path / "pickled.npz")
    for name, odd in {
        "words": np.array(["a", "b"]),
        "complex": np.zeros(2, complex),
        "dates": np.zeros(2, "M8[s]"),
    }.items():
        for keys in ({"mu": odd, "sigma": np.zeros((2, 2))}, {"pool_3": odd}):
            np.savez(tmp_path / f"{name}.npz", **keys)
            with pytest.raises(InputError, match=rf"{name}\.npz: (mu|pool_3) must be numbers; got \(2\)"):
                metrics.read(tmp_path / f"{name}.npz")
    np.save(tmp_path / "array.npy", np.zeros((6, 8, 8, 3), np.uint8))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(InputError, match=r"array\.npz: truncated or not an \.npz file"):
        metrics.read(tmp_path / "array.npz")
    np.savez(tmp_path / "shapes.npz", mu=np.zeros(3), sigma=np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"mu \(3,\), sigma \(2, 2\)"):
        metrics.read(tmp_path / "shapes.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_no_file_of_statistics(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(InputError, match=r"pipe\.npz: not a file"):
        metrics.read(tmp_path / "pipe.npz")


def test_an_array_that_would_fill_the_memory_is_not_unpacked(tmp_path, monkeypatch):
    """A bomb: few bytes on disk, by its head many in memory."""
    np.savez_compressed(tmp_path / "bomb.npz", arr_0=np.zeros((4, 64, 64, 3), np.uint8), mu=np.zeros(9))
    monkeypatch.setattr("ddim.images.arrays.UNPACKED", 40_000)
    monkeypatch.setattr(np.lib.format, "read_array", None)
    with pytest.raises(InputError, match=r"bomb\.npz: arr_0 would take 49,152 bytes of memory"):
        metrics.read(tmp_path / "bomb.npz")


def test_statistics_of_other_tools_are_read(tmp_path):
    """`mu` and `sigma`, `m2` and `s2`, the features `pool_3`, and a batch of images `arr_0`."""
    values = np.random.default_rng(0).normal(size=(50, 4))
    mu, sigma = values.mean(0), np.cov(values, rowvar=False)
    for keys in ({"mu": mu, "sigma": sigma}, {"m2": mu, "s2": sigma}, {"pool_3": values}):
        np.savez(tmp_path / "s.npz", **keys)
        found = metrics.read(tmp_path / "s.npz")
        np.testing.assert_allclose(found.mu, mu, atol=1e-12)
        np.testing.assert_allclose(found.sigma, sigma, atol=1e-12)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "s.npz", arr_0=images)
    assert torch.equal(metrics.read(tmp_path / "s.npz"), torch.from_numpy(images).permute(0, 3, 1, 2))


def test_precision_and_recall_of_features_with_a_large_mean():
    """Moved by 10,000, the sets have the same shares, as float64 finds them; float32 about the origin loses them."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(200, 16, generator=generator, dtype=torch.float64) for _ in range(2))
    y = 0.9 * y + 0.2

    def shares(real: torch.Tensor, fake: torch.Tensor, k: int = 3) -> list[float]:
        found = []
        for points, centres in ((fake, real), (real, fake)):
            radii = (centres[:, None] - centres).square().sum(2).sqrt().sort(1).values[:, k]
            inside = ((points[:, None] - centres).square().sum(2).sqrt() <= radii).any(1)
            found.append(inside.double().mean().item())
        return found

    expected = shares(x, y)
    assert 0.3 < min(expected) < 0.99
    moved = (Statistics.of(x.float().double() + 1e4), Statistics.of(y.float().double() + 1e4))
    assert metrics.precision_recall(*moved) == pytest.approx(expected, abs=0.011)
