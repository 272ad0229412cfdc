"""What closed forms say of the solvers: polynomials that they integrate exactly, and first steps that are known."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from support.conformance import gaussian, gaussian_error, mixture, starts

from ddim.diffusion import schedule
from ddim.diffusion.process import Prediction, from_eps, from_x0
from ddim.diffusion.schedule import level, time_at
from ddim.diffusion.solvers import SOLVERS, find, multistep, with_noise
from ddim.diffusion.walk import last, walk
from ddim.errors import InputError

ABAR = schedule.linear()


def sigma_of(t) -> float:
    return (1 / level(ABAR, t) - 1).sqrt().item()


class Polynomial:
    """A model whose ε, or whose x̂_0, is a polynomial: of σ̄, or of λ."""

    abar = ABAR

    def __init__(self, coefficients, of_x0: bool):
        self.polynomial, self.of_x0 = np.polynomial.Polynomial(coefficients), of_x0

    def __call__(self, x, t) -> Prediction:
        value = torch.full_like(x, self.polynomial(-np.log(sigma_of(t)) if self.of_x0 else sigma_of(t)))
        return (from_x0 if self.of_x0 else from_eps)(x, value, level(ABAR, t))

    def exact(self, x, t, s):
        """dx̄ = ε dσ̄; with x̂_0, d(x̄/σ̄) = −x̂_0 dσ̄/σ̄², that is x̂_0 e^λ dλ."""
        if self.of_x0:
            a, b = -np.log(sigma_of(t)), -np.log(sigma_of(s))
            moved = quad(lambda u: self.polynomial(u) * np.exp(u), a, b, epsabs=1e-13, epsrel=1e-13)[0]
            return level(ABAR, s).sqrt() * sigma_of(s) * (x / level(ABAR, t).sqrt() / sigma_of(t) + moved)
        integral = self.polynomial.integ()
        return level(ABAR, s).sqrt() * (x / level(ABAR, t).sqrt() + integral(sigma_of(s)) - integral(sigma_of(t)))


@pytest.mark.parametrize(("name", "degree", "of_x0"), [("ab2", 1, False), ("ab3", 2, False), ("dpm++3m", 2, True)])
@pytest.mark.parametrize("times", [[700, 520, 310, 90.5], [100, 250, 300, 640]], ids=["down", "up"])
def test_a_polynomial_is_integrated_exactly(name: str, degree: int, of_x0: bool, times: list):
    """From the predictions at the times before, over unequal steps."""
    model, x = Polynomial([0.3, -0.7, 0.4][: degree + 1], of_x0), starts((2, 1, 1, 1))
    past = tuple(model(x, t) for t in times[-3::-1])[:degree]
    found = last(walk(model, x, times[-2:], name, past)).x
    torch.testing.assert_close(found, model.exact(x, *times[-2:]), rtol=0, atol=1e-10)


def test_euler_in_t_is_its_formula():
    """(15): Δx̄ = ½ Δ(σ̄²) ε/σ̄."""
    model, x = mixture(), starts((3, 1, 1, 2))
    a, b = sigma_of(600), sigma_of(350)
    expected = level(ABAR, 350).sqrt() * (x / level(ABAR, 600).sqrt() + (b * b - a * a) / 2 / a * model(x, 600).eps)
    torch.testing.assert_close(last(walk(model, x, [600, 350], "euler-t")).x, expected)


@pytest.mark.parametrize("name", ["ab2", "ab3", "ipndm", "dpm++2m", "dpm++3m", "unipc3", "o-belm"])
def test_a_walk_begins_with_ddims_step(name: str):
    model, x = mixture(), starts((3, 1, 1, 2))
    for grid in ([1000, 700], [0, 300], [1000, 0]):
        torch.testing.assert_close(last(walk(model, x, grid, name)).x, last(walk(model, x, grid, "ddim")).x)


@pytest.mark.parametrize("name", ["dpm++2m", "dpm++3m", "dpm++2s", "sde-dpm++2m"])
def test_in_lambda_the_last_step_returns_the_predicted_image(name: str):
    x = starts((3, 1, 1, 2))
    solver = with_noise(name, 0, "small", iter([x, x, x]))
    moment = last(walk(mixture(), x, [1000, 500, 200, 0], solver))
    torch.testing.assert_close(moment.x, moment.prediction.x0)


@pytest.mark.parametrize("name", ["ab3", "ipndm", "dpm++3m", "dpm++2s", "unipc3", "exact", "o-belm"])
def test_a_time_per_image_is_each_images_own_walk(name: str):
    model, x = mixture(), starts((2, 1, 1, 2))
    paths = [[1000, 700.5, 300, 40], [800, 500, 250.25, 100]]
    together = last(walk(Each(model), x, [torch.tensor(times) for times in zip(*paths, strict=True)], name)).x
    for k, path in enumerate(paths):
        alone = last(walk(model, x[k : k + 1], path, name)).x
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=1e-9)


class Each:
    """A model that asks another for each image by itself, at its own time."""

    def __init__(self, model):
        self.model, self.abar = model, model.abar

    def __call__(self, x, t) -> Prediction:
        each = [self.model(x[k : k + 1], here.item()) for k, here in enumerate(t)]
        return Prediction(
            *(torch.cat(parts) for parts in zip(*[p[:2] for p in each], strict=True)), level(self.abar, t, x)
        )


class Settled:
    """A model that always predicts the same image, over a schedule that ends without any signal."""

    def __init__(self):
        self.abar = schedule.linear()
        self.abar[-1] = 0

    def __call__(self, x, t) -> Prediction:
        abar = level(self.abar, t)
        x0 = torch.full_like(x, 0.4)
        return Prediction(x, x, abar) if t == 0 else from_x0(x, x0, abar)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("path", [[1000, 700, 400, 100, 0], [0, 100, 400, 700, 1000]], ids=["down", "up"])
def test_data_and_pure_noise_at_the_ends_leave_no_nan(name: str, path: list):
    """Finite, or refused in one line."""
    x, moments = starts((2, 1, 1, 1)), []
    try:
        for moment in walk(Settled(), x, path, with_noise(name, 0, "small", iter([x] * 9))):
            moments.append(moment.x)
    except InputError as refusal:
        message = str(refusal)
        assert "; choose" in message
        assert name in ("heun", "dpm++2s", "euler-t", "o-belm", "implicit", "sde-dpm++2m")
    assert all(x.isfinite().all() for x in moments)
    if path[0] == 1000 and len(moments) == 4:
        torch.testing.assert_close(moments[-1], torch.full_like(x, 0.4))


def test_the_first_answer_is_nearly_known():
    """At T, ε = x is off by √ᾱ at most; the walk after it is the same but for that."""
    model, grid = gaussian(), schedule.times(1000, 8, "power-1.5")
    x = starts((64, 1, 1, 1))
    for name in ("ddim", "heun", "dpm++3m", "unipc"):
        known, asked = last(walk(model, x, grid, f"{name}+afs")), last(walk(model, x, grid, name))
        assert 0 < (known.x - asked.x).abs().max() < 0.2, name
        errors = [gaussian_error(lambda noise, n=n: find(n), model, grid) for n in (name, f"{name}+afs")]
        assert errors[1] < errors[0] + 0.03, name
    first = next(walk(model, x, grid, "ddim+afs")).prediction
    torch.testing.assert_close(first.eps, x)
    torch.testing.assert_close(level(ABAR, 1000).sqrt() * first.x0 + (1 - ABAR[1000]).sqrt() * first.eps, x)


REFUSED = [
    ("ddim+afs", [500, 0], "solver ddim+afs starts at noise alone, not at time 500: use ddim"),
    ("ddim+afs", [0, 500], "solver ddim+afs walks down only, so it is not for encoding; choose ddim"),
    ("sde-dpm++2m", [0, 500], "solver sde-dpm++2m walks down only, so it is not for encoding; choose ddim"),
    ("sde-dpm++2m", [500, 100], "solver sde-dpm++2m needs noise in every step: use ddim.sample, or choose dpm++2m"),
    ("euler-t", [0, 500], "solver euler-t cannot leave the data, so it is not for encoding; choose ddim"),
    ("dpm++9m", [500, 0], "unknown solver 'dpm++9m': choose one of ddim, ab2, .*; did you mean dpm"),
    ("nothing+afs", [500, 0], "unknown solver 'nothing': choose one of ddim"),
]


@pytest.mark.parametrize(("name", "grid", "message"), REFUSED)
def test_what_a_solver_cannot_do_is_one_line(name: str, grid: list, message: str):
    with pytest.raises(InputError, match=message.replace("+", r"\+")) as caught:
        last(walk(gaussian(), starts((1, 1, 1, 1)), grid, name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ab2", "dpm++3m", "unipc", "heun", "exact", "o-belm", "ddim+x"])
def test_noise_where_a_solver_has_none_is_one_line(name: str):
    message = "unknown solver" if "+x" in name else "takes no noise: leave out eta, or choose ddim or dpm"
    with pytest.raises(InputError, match=message):
        with_noise(name, 0.5, "small", iter(()))


def test_the_sde_solver_is_eta_1():
    x = starts((3, 1, 1, 2))
    grid = schedule.times(1000, 7)
    made = [
        last(walk(mixture(), x, grid, with_noise(name, eta, "small", iter([x * 0.5] * 7)))).x
        for name, eta in (("sde-dpm++2m", 0), ("sde-dpm++2m", 1), ("dpm++2m", 1))
    ]
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])
    with pytest.raises(InputError, match="is dpm\\+\\+2m with eta 1"):
        with_noise("sde-dpm++2m", 0.5, "small", iter(()))


def test_time_at_inverts_level():
    for t in (0, 0.25, 1, 1.5, 300, 640.125, 999.5, 1000):
        assert time_at(ABAR, level(ABAR, t)) == pytest.approx(t, abs=1e-9)
        assert isinstance(time_at(ABAR, level(ABAR, t)), int) == float(t).is_integer()
    several = torch.tensor([0.5, 20.0, 731.25], dtype=torch.float64)
    torch.testing.assert_close(time_at(ABAR, level(ABAR, several)), several)


def test_a_formula_that_is_none_gets_one_line():
    """One that takes other arguments when it is made a solver; one that returns something else in its first step."""
    form = r"it takes \(x, past, abar_s\) and returns x_s, a tensor of the shape of x"
    with pytest.raises(InputError, match=rf"^the formula two takes other arguments: {form}$"):

        @multistep(1)
        def two(x, past):
            return x

    @multistep(1)
    def nothing(x, past, abar_s):
        pass

    @multistep(1, name="flat")
    def flat(x, past, abar_s):
        return x[0]

    x = torch.zeros(2, 1, 1, 2, dtype=torch.float64)
    for solver, got in ((nothing, "None"), (flat, r"\(1, 1, 2\)")):
        line = rf"^the formula of solver {solver.name} returned {got}: {form}, \(2, 1, 1, 2\) here$"
        with pytest.raises(InputError, match=line):
            last(walk(Polynomial([1.0], False), x, [1000, 500, 0], solver))
    with pytest.raises(
        InputError, match=r"or a ddim\.Solver; got function: put @ddim\.multistep\(1\) above a formula$"
    ):
        find(nothing.formula)
    with pytest.raises(InputError, match=r"^multistep takes how many predictions it keeps: @ddim\.multistep\(1\)"):
        multistep(nothing.formula)
