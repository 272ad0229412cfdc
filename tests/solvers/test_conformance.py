"""Every solver × spacing × S from 1 to 50 on analytic data, and the analytic data themselves."""

import pytest
import torch
from support.conformance import (
    NOISY,
    SPACINGS,
    WAYS,
    convergence,
    gaussian,
    gaussian_error,
    mixture,
    noises,
    ode_error,
    order,
    starts,
)  # fmt: skip
from support.oracles import Gaussian, Mixture

from ddim.diffusion import schedule
from ddim.diffusion.solvers import find, multistep
from ddim.diffusion.walk import walk

every_solver = pytest.mark.parametrize("name", WAYS)
FEW, EVERY = (1, 2, 3, 5, 10, 20, 50), pytest.param(range(1, 51), marks=pytest.mark.slow)
# From σ̄ = 157 some rules are bad over few steps, though finite: the trapezoid, and Euler in t, which leaves half of the
# last level's noise.
WILD = {"heun": (1000, 40), "euler-t": (100, 1000)}  # the largest error, and the S from which it is below 1
LOW = ("official-linear", "official-quadratic", "leading", "leading+1", "linspace")  # at S = 1 they start at t = 1


def begins_low(name: str, times: list) -> bool:
    """Whether a walk starts too far down for the analytical first step."""
    return name.endswith("+afs") and times[0] < 800


@every_solver
@pytest.mark.parametrize("steps", [FEW, EVERY], ids=["few", "all"])
def test_errors_are_finite_and_fall(name: str, steps):
    model, way = gaussian(), WAYS[name]
    largest, quiet = WILD.get(name, (1.2, 1000))
    for spacing in SPACINGS:
        grids = {S: schedule.grid(model.abar, S, spacing) for S in steps}
        errors = {S: gaussian_error(way, model, grid) for S, grid in grids.items() if not begins_low(name, grid)}
        assert all(0 <= error < (1 if quiet <= S else largest) for S, error in errors.items()), spacing  # NaN fails too
        if spacing not in LOW:
            assert errors[50] < 0.5 * errors[10] or errors[50] < 0.015, spacing
            assert errors[10] < 0.7 * errors[1], spacing


@every_solver
@pytest.mark.parametrize("steps", [(1, 2, 4, 50), EVERY], ids=["few", "all"])
def test_samples_of_a_mixture_are_finite(name: str, steps):
    model, way, x = mixture(), WAYS[name], starts((32, 1, 1, 2))
    for spacing in SPACINGS:
        for S in steps:
            grid = schedule.grid(model.abar, S, spacing)
            if begins_low(name, grid):
                continue
            for x_s, _, _ in walk(model, x, grid, way(noises(x.shape))):
                assert x_s.isfinite().all(), (spacing, S)
        if spacing != "official-quadratic" and name != "euler-t":
            # At the data's end most stand within 3.5 deviations of a mode; S this small leaves a few between modes.
            distance = torch.cdist(x_s.flatten(1), model.means.flatten(1)).min(1).values
            assert (distance < 3.5 * model.variance**0.5).double().mean() > 0.8, spacing


@pytest.mark.parametrize("name", ["ddim", "euler-t", *NOISY, "sde-dpm++2m"])
@pytest.mark.parametrize("spacing", ["linear", "quadratic"])
def test_order_of_convergence(name: str, spacing: str):
    """Of what comes out of a whole walk, into the data; with noise, of its law."""
    measured = order(convergence(WAYS[name], spacing))
    if "dpm++" not in name:
        assert 0.85 < measured < 1.25
    elif spacing == "quadratic":
        assert measured == pytest.approx(2, abs=0.2)
    else:  # the last step is of order 1, and on this grid it is long
        assert 1.4 < measured < 2.2


def test_a_wrong_solver_is_caught():
    """The gate itself: DDIM without √ᾱ_s before x̂_0, and one that never converges, do not pass."""

    @multistep(1)
    def without_root(x, past, abar):
        return past[0].x0 + (1 - abar).sqrt() * past[0].eps

    @multistep(1)
    def stuck(x, past, abar):
        return abar.sqrt() * 0.98 * past[0].x0 + (1 - abar).sqrt() * past[0].eps

    for solver in (without_root, stuck):
        assert order(convergence(lambda noise, solver=solver: solver, "linear")) < 0.5


def test_solvers_of_higher_order_beat_ddim_at_equal_evaluations():
    """On the way into the data, whatever the last step is: still far nearer to the exact flow of the mixture."""
    model, x = mixture(), starts((64, 1, 1, 2))
    exact = model.flow(x, 1000, 0)
    ddim = ode_error(WAYS["ddim"], model, schedule.times(1000, 20, "quadratic"), x, exact)
    for name in ("ab2", "ab3", "ipndm", "dpm++2m", "dpm++3m", "unipc", "unipc3", "heun", "dpm++2s", "exact", "o-belm"):
        grid = schedule.times(1000, 10 if name in ("heun", "dpm++2s") else 20, "quadratic")
        assert find(name).evaluations(grid) in (19, 20)
        assert ode_error(WAYS[name], model, grid, x, exact) < 0.8 * ddim, name


MODELS = {"gaussian": gaussian(), "mixture": mixture()}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("t", [1, 100, 900])
def test_eps_is_the_score(name: str, t: int):
    model: Gaussian | Mixture = MODELS[name]
    x = starts((16, 1, 1, 2)).requires_grad_()
    (score,) = torch.autograd.grad(model.log_density(x, t).sum(), x)
    assert torch.allclose(model(x, t).eps, -(1 - model.abar[t]).sqrt() * score, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_log_density_integrates_to_one(name: str):
    axis = torch.linspace(-8, 8, 801, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
    for t in (0, 500):
        assert MODELS[name].log_density(x, t).exp().sum().item() * 0.02**2 == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_flow_carries_the_density(name: str):
    """log q_s(flow(x)) + log |det ∂flow/∂x| = log q_t(x): the flow maps one marginal onto the other."""
    model, x, t, s, h = MODELS[name], starts((8, 1, 1, 2)), 700, 0, 1e-4
    columns = []
    for axis in range(2):
        step = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
        step[..., axis] = h
        columns.append(((model.flow(x + step, t, s) - model.flow(x - step, t, s)) / (2 * h)).flatten(1))
    determinant = torch.linalg.det(torch.stack(columns, dim=2)).log()
    carried = model.log_density(model.flow(x, t, s), s) + determinant
    assert torch.allclose(carried, model.log_density(x, t), atol=1e-4)


def test_flow_goes_back():
    model, x = mixture(), starts((8, 1, 1, 2))
    assert torch.allclose(model.flow(model.flow(x, 800, 0), 0, 800), x, atol=1e-6)


def test_a_mixture_of_one_is_a_gaussian():
    abar = schedule.linear()
    mean = torch.full((1, 1, 1, 2), 0.4, dtype=torch.float64)
    one = Mixture(abar, torch.ones(1, dtype=torch.float64), mean, 0.3)
    other = Gaussian(abar, mean[0], torch.tensor(0.3, dtype=torch.float64))
    x = starts((8, 1, 1, 2))
    assert torch.allclose(one(x, 300).eps, other(x, 300).eps)
    assert torch.allclose(one.log_density(x, 300), other.log_density(x, 300))
    assert torch.allclose(one.flow(x, 900, 10), other.flow(x, 900, 10), atol=1e-9)
