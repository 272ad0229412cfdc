"""Training of a learned variance: L_hybrid, L_vlb at resampled times, and what a run leaves."""

import json

import pytest
import torch
from accelerate import Accelerator
from support.improved import Chain, public
from support.layouts import Improved, randomise
from support.models import tiny_model, tiny_network
from support.training import TINY, fit, losses

import ddim
from ddim.diffusion import schedule
from ddim.training import resampling
from ddim.training.fine_tuning import prepared
from ddim.training.loss import loss_of
from ddim.training.presets import FINE_TUNING, PRESETS
from ddim.training.variational import LAMBDA, ResampledVLB, hybrid_loss, terms_of

ABAR = schedule.cosine(60)
TIMES = torch.tensor([1, 1, 2, 17, 59, 60])


@pytest.fixture
def batch():
    """A network with a variance that needs gradients, and x_0 and ε for six times, the ends among them."""
    network = tiny_network(channels=1, out_channels=2).requires_grad_(True)
    images = torch.randint(0, 256, (6, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images[0, :, :4], images[1, :, :4] = 0, 255
    eps = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return network, ddim.data.to_float(images), eps


def test_the_hybrid_loss_is_the_squared_error_and_a_thousandth_of_the_bound(batch):
    network, x0, eps = batch
    chain = Chain(network, ABAR.numpy(), list(range(1, 61)), clip=False)
    each = zip(TIMES.tolist(), x0.double().split(1), eps.double().split(1), strict=True)
    bound = sum(chain.term(t - 1, x, e) for t, x, e in each)
    level = ABAR.float()[TIMES][:, None, None, None]
    square = (network(level.sqrt() * x0 + (1 - level).sqrt() * eps, TIMES - 1)[:, :1] - eps).square().mean()
    expected = square.item() + 0.001 * 60 * bound.item() / 6
    assert abs(hybrid_loss(network, x0, TIMES, eps, ABAR).item() - expected) < 1e-4
    assert 0.001 * 60 * bound.item() / 6 > 0.05  # it counts


def test_it_is_the_loss_of_the_authors_code(batch):
    network, x0, eps = batch
    expected = public(ABAR.numpy(), list(range(1, 61))).training_losses(network, x0, TIMES - 1, noise=eps)["loss"]
    # Theirs scales the bound by T/1000 = 0.06, which is 0.001 T.
    assert abs(hybrid_loss(network, x0, TIMES, eps, ABAR).item() - expected.mean().item()) < 1e-4


def test_the_bounds_gradient_does_not_reach_the_mean(batch):
    """The weights that give ε get the gradient of the squared error, bit for bit; those that give v get one of theirs.
    Of the bound alone, both do."""
    network, x0, eps = batch

    def gradients(loss) -> torch.Tensor:
        network.zero_grad()
        loss.backward()
        return network.conv_out.weight.grad.clone()

    simple = loss_of(lambda *inputs: network(*inputs)[:, :1], x0, TIMES, eps, ABAR)
    plain, hybrid = gradients(simple), gradients(hybrid_loss(network, x0, TIMES, eps, ABAR))
    assert torch.equal(plain[0], hybrid[0])
    assert plain[1].abs().max() == 0 < hybrid[1].abs().max()
    both = gradients(ResampledVLB(resampling.empty(60))(network, x0, TIMES, eps, ABAR))
    assert both[0].abs().max() > 0
    torch.testing.assert_close(hybrid[1], LAMBDA * both[1], rtol=1e-4, atol=1e-8)  # equal chances: the same mean


def filled(T: int, seed: int = 0) -> tuple[torch.Tensor, list[list[float]]]:
    """A history of losses at random times, and the last ten of each t, kept as lists."""
    generator = torch.Generator().manual_seed(seed)
    history, kept = resampling.empty(T), [[] for _ in range(T)]
    for _ in range(60):
        times = torch.randint(1, T + 1, (40,), generator=generator)
        values = torch.rand(40, generator=generator, dtype=torch.float64) * 10.0 / times
        resampling.add(history, times, values)
        for t, value in zip(times.tolist(), values.tolist(), strict=True):
            kept[t - 1] = [*kept[t - 1], value][-10:]
    return history, kept


def test_the_chances_are_the_roots_of_the_mean_squares_of_ten_losses():
    history, kept = filled(50)
    assert all(len(row) == 10 for row in kept)
    sizes = [(sum(x * x for x in row) / 10) ** 0.5 for row in kept]
    expected = [0.999 * size / sum(sizes) + 0.001 / 50 for size in sizes]
    torch.testing.assert_close(resampling.chances(history), torch.tensor(expected, dtype=torch.float64))
    assert max(expected) > 5 * min(expected)
    history[3, 0] = float("nan")  # nine losses of one t
    assert torch.equal(resampling.chances(history), torch.full((50,), 1 / 50, dtype=torch.float64))


def test_times_are_drawn_by_their_chances():
    history, _ = filled(50)
    n, p = 100_000, resampling.chances(history)
    times = torch.cat([resampling.draw(history, 0, step, n // 100) for step in range(100)])
    counts = times.bincount(minlength=51)[1:]
    assert counts.sum() == n
    assert ((counts - n * p).abs() < 5 * (n * p).sqrt()).all()
    assert torch.equal(resampling.draw(history, 3, 7, 20), resampling.draw(history, 3, 7, 20))


def test_the_weights_leave_the_estimate_of_the_bound_unbiased(batch):
    """Over all t exactly; and the mean of many losses of a network at drawn times is Σ L_t, within four errors."""
    network, x0, eps = batch
    history, _ = filled(60)
    every = torch.arange(1, 61)
    values = torch.rand(60, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expectation = (resampling.chances(history) * resampling.weights(history, every) * values).sum()
    torch.testing.assert_close(expectation, values.mean())
    with torch.no_grad():
        one, noise = x0[:1].expand(60, -1, -1, -1), eps[:1].expand(60, -1, -1, -1)
        measure = ResampledVLB(history)
        level = ABAR.float()[every][:, None, None, None]
        out = network(level.sqrt() * one + (1 - level).sqrt() * noise, every - 1)
        total = terms_of(one, every, noise, ABAR, *out.chunk(2, 1)).sum()
        drawn = [measure(network, one, resampling.draw(history, 0, k, 60), noise, ABAR) for k in range(200)]
    found = torch.stack(drawn)
    assert abs(found.mean() - total) < 4 * found.std() / 200**0.5
    uniform = torch.stack([measure(network, one, torch.randint(1, 61, (60,)), noise, ABAR) for _ in range(50)])
    assert abs(uniform.mean() - total) > 8 * found.std() / 200**0.5  # the weights are of the times that they are for


def test_the_losses_of_a_step_enter_the_history(batch):
    network, x0, eps = batch
    measure = ResampledVLB(resampling.empty(60))
    measure(network, x0, TIMES, eps, ABAR)
    measure.remember(Accelerator(cpu=True))
    level = ABAR.float()[TIMES][:, None, None, None]
    out = network(level.sqrt() * x0 + (1 - level).sqrt() * eps, TIMES - 1)
    expected = 60 * terms_of(x0, TIMES, eps, ABAR, *out.chunk(2, 1))
    torch.testing.assert_close(measure.history[0, -2:], expected[:2].double().detach())
    assert measure.history[16, -1] == expected[3]
    assert (~measure.history.isnan()).sum() == 6
    assert not measure.seen


def test_resampling_makes_the_bounds_loss_vary_less():
    """After ten losses of each of 20 levels; by the same network, its rate being 0."""
    frozen = TINY.changed(T=20, beta_1=1e-3, beta_T=0.3, loss="vlb", lr=0.0, batch_size=64)
    found, state = fit(frozen, steps=120)
    assert not state.history.isnan().any()
    uniform, _ = fit(frozen.changed(loss="hybrid"), steps=1)  # to see that both run on the same images
    assert uniform[0] > 0
    early, late = torch.tensor(found[:8]), torch.tensor(found[-60:])
    assert late.std() < 0.7 * early.std()
    assert abs(late.mean() / early.mean() - 1) < 0.3


def test_hybrid_training_lowers_the_loss():
    plain, one = fit(TINY, steps=8)
    hybrid, two = fit(TINY.changed(loss="hybrid"), steps=8)
    # The first step is of weights that differ in conv_out alone, which is 0: the squared error is the same.
    assert hybrid[0] > plain[0]
    assert two.network.conv_out.weight.shape[0] == 2 * one.network.conv_out.weight.shape[0]
    assert hybrid[-1] < hybrid[0]


@pytest.mark.parametrize("loss", ["hybrid", "vlb"])
def test_a_run_resumes_exactly_and_its_folder_samples_with_the_variance(loss: str, ddim_cli, tmp_path):
    small = (
        "--ch",
        8,
        "--groups",
        4,
        "--mult",
        1,
        1,
        "--batch-size",
        64,
        "--T",
        10,
        "--log-every",
        1,
        "--loss",
        loss,
        "--no-decay",
    )
    for out, steps in (("whole", [12]), ("parts", [5, 12])):
        for k, n in enumerate(steps):
            more = ("--resume",) if k else small
            result = ddim_cli("train", "digits-improved", "--out", out, *more, "--steps", n, "--save-every", 100)
            assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "parts")[5:] == losses(tmp_path / "whole")[5:]
    model, other = ddim.load(tmp_path / "parts", "cpu"), ddim.load(tmp_path / "whole", "cpu")
    assert model.learns_variance
    assert model.T == 10
    if loss == "vlb":
        states = (torch.load(tmp_path / name / "state/last.pt", weights_only=True) for name in ("parts", "whole"))
        kept = [state["history"] for state in states]
        assert torch.equal(kept[0].nan_to_num(-1), kept[1].nan_to_num(-1))
        assert not kept[0].isnan().any()
    scheduler = json.loads((tmp_path / "parts/scheduler/scheduler_config.json").read_text())
    assert scheduler["variance_type"] == "learned_range"
    images = ddim.sample(model, 2, 5, 1.0, variance="learned")
    assert images.isfinite().all()
    assert model.fingerprint == other.fingerprint


def test_the_presets_have_what_the_paper_has():
    digits, cifar = PRESETS["digits-improved"], PRESETS["cifar10-improved"]
    assert (digits.noise.T, digits.noise.schedule, digits.optimiser.loss) == (1000, "cosine", "hybrid")
    assert (cifar.noise.T, cifar.noise.schedule, cifar.optimiser.loss) == (4000, "cosine", "hybrid")
    assert PRESETS["digits"].optimiser.loss == PRESETS["cifar10"].optimiser.loss == "simple"


def test_fine_tuning_keeps_a_variance_or_begins_one(tmp_path):
    torch.save(randomise(Improved(out=6)).state_dict(), tmp_path / "improved.pt")
    source = ddim.load(tmp_path / "improved.pt", "cpu", image_size=16)
    how = FINE_TUNING.changed(init="improved.pt", size=16, loss="hybrid")
    kept = prepared(source, how, None)
    kept.network.eval()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(kept(x, 300).variance, source(x, 300).variance)
    plain = tiny_model()
    begun = prepared(plain, how.changed(size=8, channels=1, dropout=0.0), None)
    begun.network.eval()
    y = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(begun(y, 300).eps, plain(y, 300).eps, rtol=1e-5, atol=1e-6)
    assert (begun(y, 300).variance == 0).all()
