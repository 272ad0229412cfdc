"""Every solver × spacing × S from 1 to 50 on analytic data, and the analytic data themselves."""

import pytest
import torch
from support.conformance import (
    WAYS,
    convergence,
    gaussian,
    gaussian_error,
    mixture,
    ode_error,
    order,
    starts,
)  # fmt: skip
from support.oracles import Gaussian, Mixture

from ddim.diffusion import schedule
from ddim.diffusion.noise import draws
from ddim.diffusion.solvers import find, multistep
from ddim.diffusion.walk import walk

every_solver = pytest.mark.parametrize("name", WAYS)
every_spacing = pytest.mark.parametrize("spacing", schedule.SPACINGS)
STEPS = range(1, 51)


@every_solver
@every_spacing
def test_errors_are_finite_and_fall(name: str, spacing: str):
    model, way = gaussian(), WAYS[name]
    errors = {S: gaussian_error(way, model, schedule.times(1000, S, spacing)) for S in STEPS}
    # NaN and infinity fail this too. From σ̄ = 157 a trapezoid over few steps is a bad rule: Heun's errors are large.
    assert all(0 <= error < (1 if name != "heun" or S >= 40 else 1000) for S, error in errors.items())
    if schedule.times(1000, 1, spacing)[0] == 1000:  # others start the lower the smaller S is: at S = 1 at t = 1
        assert errors[50] < 0.5 * errors[10] or errors[50] < 0.015
        assert errors[10] < 0.7 * errors[1]


@every_solver
@every_spacing
def test_samples_of_a_mixture_are_finite(name: str, spacing: str):
    model, way, x = mixture(), WAYS[name], starts((32, 1, 1, 2))
    for S in STEPS:
        noise = draws(0, range(32), (1, 1, 2), like=x)
        for x_s, _, _ in walk(model, x, schedule.times(1000, S, spacing), way(noise)):
            assert x_s.isfinite().all()
        if S == 50 and spacing != "official-quadratic":
            # At the data's end most stand within 3.5 deviations of a mode; S this small leaves a few between modes.
            distance = torch.cdist(x_s.flatten(1), model.means.flatten(1)).min(1).values
            assert (distance < 3.5 * model.variance**0.5).double().mean() > 0.9


@pytest.mark.parametrize("name", [name for name in WAYS if name not in ("heun", "unipc")])
@pytest.mark.parametrize("spacing", ["linear", "quadratic"])
def test_order_of_convergence(name: str, spacing: str):
    measured = order(convergence(WAYS[name], spacing))
    assert 0.85 < measured < 1.25


def test_ddim_converges_to_the_flow_of_a_mixture():
    """A nonlinear ODE: the order holds where the exact flow is known only through an integrator."""
    model, x = mixture(4096), starts((64, 1, 1, 2))
    exact = model.flow(x, 4096, 0)
    errors = {
        S: ode_error(WAYS["η = 0 (DDIM)"], model, schedule.times(4096, S, "quadratic"), x, exact)
        for S in (64, 128, 256)
    }
    assert order(errors) == pytest.approx(1, abs=0.2)
    assert errors[256] < 0.02


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


@pytest.mark.parametrize("name", ["heun", "unipc"])
def test_a_second_order_solver_beats_ddim_at_equal_evaluations(name: str):
    """On the way into the data, where the last step is DDIM's: still far nearer to the exact flow of the mixture."""
    model, x = mixture(), starts((64, 1, 1, 2))
    exact = model.flow(x, 1000, 0)
    grid = schedule.times(1000, 20 if name == "unipc" else 10, "quadratic")
    assert find(name).evaluations(grid) in (19, 20)
    ddim = ode_error(WAYS["η = 0 (DDIM)"], model, schedule.times(1000, 20, "quadratic"), x, exact)
    assert ode_error(WAYS[name], model, grid, x, exact) < 0.8 * ddim


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
