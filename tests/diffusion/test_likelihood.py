"""Bits per dimension: each term of the bound against the chain written from the paper and against the authors' code;
both methods against closed forms on data of which the likelihood is known.
"""

import math
from dataclasses import dataclass
from itertools import islice, pairwise

import pytest
import torch
from support.improved import Chain, public
from support.models import labelled_model, tiny_model, tiny_network
from support.oracles import Gaussian, Mixture
from torch.distributions import Normal

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.bound import log_probability
from ddim.diffusion.flow import WithDivergence, log_density
from ddim.diffusion.likelihood import from_one
from ddim.diffusion.model import Model
from ddim.diffusion.noise import draws, normal
from ddim.errors import InputError

# So little signal at T that N(0, I) is its law to 1e-4 bits/dim; of the usual 4e-5 it is to 1e-3.
ABAR = schedule.linear(beta_T=0.03)
W = 2 / 255  # the width of a value's bin


def gaussian(abar=ABAR, kind=Gaussian) -> Gaussian:
    u = torch.rand(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return kind(abar, 0.8 * u[0] - 0.4, (0.05 + 0.15 * u[1]) ** 2)


def mixture(abar=ABAR) -> Mixture:
    means = torch.tensor([-0.5, 0.1, 0.5], dtype=torch.float64)[:, None, None, None] * torch.ones(3, 1, 4, 4).double()
    means[1, 0, 0] = -0.4
    return Mixture(abar, torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64), means, 0.1**2)


def rounded(x: torch.Tensor) -> torch.Tensor:
    """To 8 bits, as uint8; next to nothing lies beyond the ends."""
    assert (x.abs() > 1).double().mean() < 1e-4
    return ddim.data.to_uint8(x)


def of_gaussian(model: Gaussian, n: int) -> torch.Tensor:
    return rounded(model.mean + model.variance.sqrt() * normal(7, range(n), (1, 4, 4)).double())


def of_mixture(model: Mixture, n: int) -> torch.Tensor:
    which = torch.arange(n) % 3
    return rounded(model.means[which] + model.variance**0.5 * normal(8, range(n), (1, 4, 4)).double())


def bits(nats: torch.Tensor) -> torch.Tensor:
    """Of images of 16 pixels."""
    return -nats / 16 / math.log(2)


@pytest.fixture
def learned() -> tuple[torch.nn.Module, Model, torch.Tensor]:
    """A network of random weights with a variance, its model, and images with 0 and 255 among their values."""
    network = tiny_network(channels=3, out_channels=6)
    images = torch.randint(0, 256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images[0, 0], images[1, 0] = 0, 255
    return network, Model(network, schedule.cosine(60), (3, 8, 8)), images


@pytest.mark.parametrize("steps", [60, 13, 2])
@pytest.mark.parametrize("clip", [True, False])
def test_each_term_is_that_of_the_chain_of_respaced_betas(learned, steps: int, clip: bool):
    network, model, images = learned
    found = ddim.likelihood(model, images, steps=steps, clip=clip, seed=3)
    times, x0 = schedule.times(60, steps), ddim.data.to_float(images).double()
    noise = list(islice(draws(3, range(3), (3, 8, 8)), steps))
    chain = Chain(network, model.abar.numpy(), times[-2::-1], clip)
    terms = torch.stack([chain.term(i, x0, noise[-1 - i].double()) for i in reversed(range(steps))], 1)
    torch.testing.assert_close(found.bound.terms[:, :-1], terms[:, :-1], rtol=1e-4, atol=1e-4)
    # The decoder has an approximation of Φ, to 3e-4, which is the most that differs in any of these terms.
    torch.testing.assert_close(found.bound.terms[:, -1], terms[:, -1], rtol=3e-3, atol=1e-3)
    torch.testing.assert_close(found.bound.prior, chain.prior(x0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.bits, found.bound.prior + found.bound.terms.sum(1))


@pytest.mark.parametrize("steps", [60, 13])
def test_each_term_is_that_of_the_authors_loop(learned, steps: int, monkeypatch):
    network, model, images = learned
    found = ddim.likelihood(model, images, steps=steps, seed=3)
    theirs = public(model.abar.numpy(), schedule.times(60, steps)[-2::-1])
    noise = draws(3, range(3), (3, 8, 8))
    monkeypatch.setattr(torch, "randn_like", lambda x: next(noise))
    expected = theirs.calc_bpd_loop(network, ddim.data.to_float(images))
    monkeypatch.undo()
    for ours, name in ((found.bits, "total_bpd"), (found.bound.prior, "prior_bpd"), (found.bound.terms, "vb")):
        torch.testing.assert_close(ours.float(), expected[name], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.bound.x0_error.float(), expected["xstart_mse"], rtol=1e-4, atol=1e-4)


def test_the_three_variances_differ_in_the_way_they_should(learned):
    """No KL is negative, and the decoder of large is that of small."""
    _, model, images = learned
    small, large = (ddim.likelihood(model, images, variance=v, steps=20) for v in ("small", "large"))
    assert (small.bound.terms >= -1e-6).all()
    assert (large.bound.terms >= -1e-6).all()
    assert torch.equal(small.bound.terms[:, -1], large.bound.terms[:, -1])  # the decoder's is the same
    assert (small.bound.terms[:, :-1] - large.bound.terms[:, :-1]).abs().min() > 1e-6


@pytest.mark.parametrize("exact", [True, False])
def test_the_decoder_is_a_distribution_over_the_256_values(exact: bool):
    values = (torch.arange(256, dtype=torch.float64) / 127.5 - 1)[:, None, None, None]
    for centre, deviation in ((0.3, 0.01), (-1.2, 0.1), (0.0, 2.0)):
        variance = torch.tensor(2 * math.log(deviation), dtype=torch.float64)
        mass = log_probability(values, torch.tensor(centre), variance, exact).exp()
        assert abs(mass.sum() - 1) < 1e-6
        if exact:
            normal_ = Normal(centre, deviation)
            assert abs(mass[100] - (normal_.cdf(values[100] + W / 2) - normal_.cdf(values[100] - W / 2))) < 1e-9


@dataclass(frozen=True)
class Optimal(Gaussian):
    """With the variance that p(x_s | x_t) truly has for s = t − 1, as a place between DDPM's two."""

    @property
    def learns_variance(self) -> bool:
        return True

    def __call__(self, x, t):
        now, before = self.abar[t], self.abar[t - 1]
        total, earlier = (a * self.variance + 1 - a for a in (now, before))
        true = earlier - now / before * earlier**2 / total
        beta = 1 - now / before
        first = self.abar[2] if t == 1 else now, self.abar[1] if t == 1 else before
        low = ((1 - first[0] / first[1]) * (1 - first[1]) / (1 - first[0])).log()
        v = 2 * (true.log() - low) / (beta.log() - low) - 1
        return super().__call__(x, t)._replace(variance=v.expand_as(x))


def test_the_bound_is_the_likelihood_of_gaussian_data_where_the_chain_is_exact():
    """Then p(x_{0:T}) is q(x_{0:T}), so the bound is −log P of the bins, for any number of levels; with the variances
    of DDPM it is more, and less so with more levels.
    """
    coarse = schedule.linear(50, 2e-3, 0.3)
    model, n = gaussian(coarse, Optimal), 6000
    images = of_gaussian(model, n)
    x = images.double() / 127.5 - 1
    normal_ = Normal(model.mean, model.variance.sqrt())
    exact = bits((normal_.cdf(x + W / 2) - normal_.cdf(x - W / 2)).log().flatten(1).sum(1))
    gap = ddim.likelihood(model, images, clip=False, batch_size=2000).bits - exact
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(n) + 2e-3  # the last: bins are narrow, not points
    assert gap.std() / math.sqrt(n) < 5e-3
    gaps = []
    for T in (50, 500):
        known = gaussian(schedule.linear(T, 0.1 / T, 15 / T))
        found = ddim.likelihood(known, images[:300], clip=False, variance="small")
        gaps.append((found.bits - exact[:300]).mean().item())
    assert gaps[0] - 0.1 > gaps[1] > 0.1


@pytest.mark.parametrize("kind", ["gaussian", "mixture"])
@pytest.mark.parametrize(("spacing", "error"), [("log-snr", 1e-3), ("power-1.5", 2e-3)])
def test_the_ode_gives_the_likelihood_of_known_data(kind: str, spacing: str, error: float):
    """In 200 steps, each image within 1e-3 bits/dim of −log p of the dequantised image at t = 1, where it begins."""
    model = gaussian() if kind == "gaussian" else mixture()
    images = of_gaussian(model, 24) if kind == "gaussian" else of_mixture(model, 24)
    found = ddim.likelihood(model, images, "ode", 200, spacing, seed=5)
    place = torch.special.ndtr(normal(5, range(24), (1, 4, 4), 1).double()) - 0.5
    y = images.double() / 127.5 - 1 + W * place
    root = ABAR[1].sqrt()
    exact = bits(model.log_density(root * y, 1) + 16 * (root.log() + math.log(W)))
    assert found.probes == 0
    assert (found.bits - exact).abs().max() < error
    at_data = bits(model.log_density(y, 0) + 16 * math.log(W))
    assert (at_data - exact).abs().max() > 3e-3
    torch.testing.assert_close(found.gap, at_data - exact, rtol=0.05, atol=1e-4)
    assert (found.halved - exact).abs().max() < 1e-2


def test_steps_of_any_length_and_their_evaluations_counted():
    model, images = mixture(), of_mixture(mixture(), 5)
    fixed, own = (ddim.likelihood(model, images, "ode", 40, solver=s, batch_size=2) for s in ("unipc", "adaptive"))
    assert fixed.evaluations == 40 + 20 + 1
    assert own.evaluations > 10
    torch.testing.assert_close(own.bits, fixed.bits, rtol=0, atol=0.06)


@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("heun", 2), ("dpm++2m", 2)])
def test_the_error_falls_with_the_solvers_order(solver: str, order: int):
    model = mixture()
    images = of_mixture(model, 6)
    place = torch.special.ndtr(normal(0, range(6), (1, 4, 4), 1).double()) - 0.5
    y, root = images.double() / 127.5 - 1 + W * place, ABAR[1].sqrt()
    exact = bits(model.log_density(root * y, 1) + 16 * (root.log() + math.log(W)))
    errors = []
    for steps in (100, 200, 400):
        found = ddim.likelihood(model, images, "ode", steps, "log-snr", solver, check=False)
        errors.append((found.bits - exact).mean().abs().item())
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert slopes[0] > order - 0.25, errors
    assert abs(slopes[0] - order) < 0.6, errors


def test_hutchinsons_estimate_is_unbiased_against_the_exact_trace():
    """Of a network: the mean over many probes, within four of its standard errors; and the error that is reported."""
    model, n = tiny_model(), 2
    images = torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    exact = ddim.likelihood(model, images, "ode", 4, check=False, probes=0)
    many = ddim.likelihood(model, images, "ode", 4, check=False, probes=600)
    assert (exact.probes, many.probes) == (0, 600)
    assert exact.probe_error is None
    assert 0 < many.probe_error < 0.2
    assert abs(many.mean - exact.mean) < 4 * many.probe_error
    few = [ddim.likelihood(model, images, "ode", 4, check=False, probes=2, seed=s).mean for s in range(40)]
    off = torch.tensor(few) - many.mean  # whatever the seed's dequantisation
    assert off.std() > many.probe_error


def test_the_divergence_is_the_jacobians_trace():
    model = tiny_model()
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    state = torch.cat([x.flatten(1), torch.zeros(2, 1)], 1)[:, None, None]
    found = WithDivergence(model, (1, 8, 8), None)(state, 300).eps[:, 0, 0, -1]
    for k in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda y: model(y[None], 300).eps[0].flatten(), x[k])
        expected = jacobian.view(64, 64).trace() / 64 * model.abar[300].sqrt()
        torch.testing.assert_close(found[k], expected, rtol=1e-4, atol=1e-6)


def test_a_grid_from_one_to_the_top_has_as_many_steps_as_asked():
    for steps in (1, 7, 200, 999):
        for spacing in ("linear", "log-snr", "power-1.5", "leading"):
            path = from_one(ABAR, steps, spacing)
            assert len(path) == steps + 1
            assert path[-1] == 1
            assert path[0] == 1000 or spacing == "leading"


def test_the_density_of_noise_alone_is_normal():
    """At T nothing is left to walk: from T−1 up, of a model whose x_0 is 0."""
    model = Gaussian(ABAR, torch.zeros(1, 1, 1, 1).double(), torch.zeros(1, 1, 1, 1).double())
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scaled = x / ABAR[999].sqrt()
    found = log_density(model, scaled, [999, 1000], "ddim")[:, 0]
    spread = (1 / ABAR[999] - 1).sqrt()
    torch.testing.assert_close(found, Normal(0.0, spread).log_prob(scaled).flatten(1).sum(1), rtol=1e-3, atol=1e-2)


def test_bits_do_not_depend_on_the_batch_size(learned):
    _, model, images = learned
    for how in ({"steps": 6}, {"method": "ode", "steps": 3, "probes": 2}):
        one, all_ = (ddim.likelihood(model, images, batch_size=b, **how) for b in (1, 3))
        torch.testing.assert_close(one.bits, all_.bits, rtol=1e-4, atol=1e-4)
        assert one.probe_error is None or abs(one.probe_error / all_.probe_error - 1) < 1e-3
        assert one.evaluations == all_.evaluations


def test_the_class_is_heard():
    model = labelled_model()
    images = torch.randint(0, 256, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for how in ({"steps": 5}, {"method": "ode", "steps": 3, "check": False}):
        each = [ddim.likelihood(model, images, label=label, **how).bits for label in ("cat", "ship", None)]
        assert (each[0] - each[1]).abs().min() > 1e-4
        assert (each[0] - each[2]).abs().min() > 1e-4
        both = ddim.likelihood(model, images, label=["cat", "ship"], **how).bits
        torch.testing.assert_close(both, torch.stack([each[0][0], each[1][1]]), rtol=1e-5, atol=1e-5)


IMAGES = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
REFUSED = [
    (lambda m: ddim.likelihood(m, IMAGES, "elbo"), "unknown method 'elbo': choose one of vlb, ode"),
    (lambda m: ddim.likelihood(m, IMAGES + 0.5), "the images are not of 8 bits"),
    (lambda m: ddim.likelihood(m, torch.rand(2, 1, 8, 8)), "the images are not of 8 bits"),
    (lambda m: ddim.likelihood(m, IMAGES.int()), "takes images of 8 bits, a tensor"),
    (lambda m: ddim.likelihood(m, IMAGES, variance="learned"), "has not learned its variance"),
    (lambda m: ddim.likelihood(m, IMAGES, steps=1001), "steps must be from 1 to 1000"),
    (lambda m: ddim.likelihood(m, IMAGES, "ode", 1001, "linear"), "steps must be from 1 to 1000"),
    (lambda m: ddim.likelihood(m, IMAGES, steps=0), "steps must be"),
    (lambda m: ddim.likelihood(m, IMAGES, label=3), "knows no classes: give no label"),
    (lambda m: ddim.likelihood(m, IMAGES, "ode", solver="exact"), "solver exact inverts sampling"),
    (lambda m: ddim.likelihood(m, IMAGES[:, :, :4]), r"images must be \(N, 1, 8, 8\)"),
    (lambda m: ddim.likelihood(labelled_model(), IMAGES, label="cow"), "unknown class 'cow': give one of cat"),
    (lambda m: ddim.likelihood(labelled_model(null=False), IMAGES), "of a class only: give a label"),
]


@pytest.mark.parametrize(("call", "words"), REFUSED)
def test_what_has_no_likelihood_is_refused_in_one_line(call, words: str):
    with pytest.raises(InputError, match=words) as told:
        call(tiny_model())
    assert "\n" not in str(told.value)
