from dataclasses import replace

import pytest
import torch
from support.conformance import mixture, starts
from support.models import tiny_model, tiny_network

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.model import Model
from ddim.diffusion.noise import normal
from ddim.diffusion.process import marginal
from ddim.diffusion.solvers.inversion import Anderson, Implicit
from ddim.diffusion.walk import last, walk
from ddim.errors import InputError


def pictures(model: Model, n: int, dtype: torch.dtype) -> torch.Tensor:
    return normal(0, range(n), model.shape).clamp(-1, 1).to(dtype)


class Counting:
    def __init__(self, model):
        self.model, self.abar, self.calls = model, model.abar, 0

    def __call__(self, x, t):
        self.calls += 1
        return self.model(x, t)


@pytest.mark.parametrize("spacing", ["linear", "quadratic", "official-quadratic", "leading+1", "karras"])
@pytest.mark.parametrize("steps", [2, 3, 20])
@pytest.mark.parametrize("solver", ["exact", "o-belm"])
def test_the_pair_returns_the_pictures_to_rounding(spacing: str, steps: int, solver: str):
    """With a network whose every weight is random, T = 100."""
    bounds = {torch.float64: 1e-11, torch.float32: 1e-4}
    for dtype, bound in bounds.items():
        model = Model(tiny_network().to(dtype), schedule.linear(100, 1e-3, 0.2), (1, 8, 8))
        x = pictures(model, 3, dtype)
        pair = ddim.encode(model, x, steps, spacing, solver=solver)
        assert pair[0].dtype == dtype
        assert (pair[0] - x).abs().max() > 0.1
        assert (ddim.decode(model, pair, steps, spacing, solver=solver) - x).abs().max() < bound


def test_the_pair_returns_the_pictures_after_many_steps():
    model = replace(tiny_model(), network=tiny_network())
    x = pictures(model, 1, torch.float32)
    pair = ddim.encode(model, x, 150, solver="exact")
    assert (ddim.decode(model, pair, 150) - x).abs().max() < 1e-4


@pytest.mark.parametrize("solver", ["exact", "o-belm"])
@pytest.mark.parametrize("spacing", ["linear", "quadratic", "power-1.5", "log-snr", "karras"])
@pytest.mark.parametrize("steps", [2, 10, 50, 200])
def test_the_state_returns_samples_of_a_mixture(solver: str, spacing: str, steps: int):
    """Up to the latents and down again, with the pair as it stands, in float64."""
    model, grid = mixture(), schedule.grid(mixture().abar, steps, spacing)
    x = model.means.repeat(4, 1, 1, 1) + 0.1 * starts((12, 1, 1, 2))
    up = last(walk(model, x, grid[::-1], solver))
    assert (last(walk(model, up.x, grid, solver, up.state)).x - x).abs().max() < 1e-9
    if steps == 200:  # and they are the latents
        assert (up.x - model.flow(x, 0, 1000)).square().mean().sqrt() < 0.03


def test_a_bidirectional_step_is_its_formula():
    """x_u = x_p − DDIM(x_t→p) + DDIM(x_t→u), written out, over a grid of four times."""
    model = replace(tiny_model(), network=tiny_network().double())
    x_0 = pictures(model, 2, torch.float64)

    def to(x, t, s):
        prediction = model(x, t)
        return marginal(prediction.x0, prediction.eps, model.abar[s])

    x_200 = to(x_0, 0, 200)
    x_600 = x_0 - to(x_200, 200, 0) + to(x_200, 200, 600)
    x_1000 = x_200 - to(x_600, 600, 200) + to(x_600, 600, 1000)
    pair = ddim.encode(model, x_0, times=[1000, 600, 200, 0], solver="exact")
    torch.testing.assert_close(pair, (x_1000, x_600), rtol=0, atol=1e-12)


def test_the_pair_costs_one_evaluation_a_step():
    model = Counting(tiny_model())
    pair = ddim.encode(model, pictures(model.model, 1, torch.float32), 10, solver="exact")
    assert model.calls == 10
    ddim.decode(model, pair, 10)
    assert model.calls == 19


def test_the_pair_needs_two_steps():
    model = tiny_model()
    with pytest.raises(InputError, match="at least 2 steps"):
        ddim.encode(model, pictures(model, 1, torch.float32), 1, solver="exact")


def test_implicit_encoding_inverts_a_networks_sampling():
    """Pictures that DDIM made come back to a thousandth of what the explicit step leaves."""
    model = replace(tiny_model(), network=tiny_network().double())
    for S in (5, 20):
        times = schedule.times(1000, S)
        x = last(walk(model, normal(1, range(3), model.shape).double(), times)).x
        z, _, residual = last(walk(model, x, times[::-1], Implicit(tolerance=1e-10, iterations=100)))
        error = (ddim.decode(model, z, times=times) - x).abs().max()
        explicit = (ddim.decode(model, ddim.encode(model, x, times=times), times=times) - x).abs().max()
        assert residual.shape == (3,)
        assert error < 1e-3 * explicit, (error, explicit)


def test_the_residual_is_what_a_step_misses():
    """Where the fixed point is left unsolved, stepping down again misses by the residual, in units of x at the top."""
    model = replace(tiny_model(), network=tiny_network().double())
    x = pictures(model, 4, torch.float64)
    z, _, residual = last(walk(model, x, [0, 700], Implicit(iterations=2)))
    missed = model.abar[700].sqrt() * (last(walk(model, z, [700, 0])).x - x)
    torch.testing.assert_close(missed.flatten(1).square().mean(1).sqrt(), residual)
    assert residual.min() > 1e-8


def test_implicit_walks_up_only():
    with pytest.raises(InputError, match="solver implicit walks up only, so it is not for sampling; choose ddim"):
        last(walk(tiny_model(), normal(0, [0], (1, 8, 8)), [1000, 0], "implicit"))


def test_a_two_step_rule_is_its_formula():
    """O-BELM over three unequal steps, written out in x̄ and σ̄."""
    model = replace(tiny_model(), network=tiny_network().double())
    x_0 = pictures(model, 2, torch.float64)
    sigma = {t: (1 / model.abar[t] - 1).sqrt() for t in (0, 200, 600, 1000)}

    def scaled(x, t):
        return x / model.abar[t].sqrt()

    x_200 = marginal(x_0, model(x_0, 0).eps, model.abar[200])
    places = {0: scaled(x_0, 0), 200: scaled(x_200, 200)}
    for p, t, u in ((0, 200, 600), (200, 600, 1000)):
        d, h = sigma[t] - sigma[p], sigma[u] - sigma[t]
        eps = model(places[t] * model.abar[t].sqrt(), t).eps
        places[u] = h**2 / d**2 * places[p] + (1 - h**2 / d**2) * places[t] + h * (h + d) / d * eps
    pair = ddim.encode(model, x_0, times=[1000, 600, 200, 0], solver="o-belm")
    expected = tuple(places[t] * model.abar[t].sqrt() for t in (1000, 600))
    torch.testing.assert_close(pair, expected, rtol=1e-10, atol=1e-10)


def test_a_pair_wants_its_solver():
    model = tiny_model()
    pair = ddim.encode(model, pictures(model, 1, torch.float32), 4, solver="exact")
    with pytest.raises(InputError, match="a pair of latents is decoded by solver exact, not heun"):
        ddim.decode(model, pair, 4, solver="heun")


def solved(g, x: torch.Tensor, tolerance: float, iterations: int) -> tuple[torch.Tensor, torch.Tensor]:
    search = Anderson(x)
    for _ in range(iterations):
        if search.update(g(search.x), tolerance):
            break
    return search.best, search.least


def test_anderson_solves_what_plain_iteration_cannot():
    """g(x) = A x + c with an eigenvalue of −3: the iteration diverges, the fixed point is (1 − A)⁻¹ c."""
    rows = torch.tensor([[-3.0, 0.2, 0.0], [0.0, 0.9, 0.1], [0.1, 0.0, 0.5]], dtype=torch.float64)
    c = normal(0, range(5), (3,)).double()
    x, residual = solved(lambda x: x @ rows.T + c, torch.zeros(5, 3, dtype=torch.float64), 1e-12, 30)
    torch.testing.assert_close(x, torch.linalg.solve(torch.eye(3).double() - rows, c.T).T, rtol=0, atol=1e-9)
    assert (residual < 1e-10).all()


def test_anderson_keeps_the_best_it_saw():
    """x = x² + 1 has no real solution: what comes back is never worse than the start."""
    x, residual = solved(lambda x: x**2 + 1, torch.zeros(2, 1, dtype=torch.float64), 1e-9, 20)
    torch.testing.assert_close((x**2 + 1 - x).abs().flatten(), residual)
    assert (residual <= 1).all()
