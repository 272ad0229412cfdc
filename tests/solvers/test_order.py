"""The order that a solver claims, measured between interior times on data whose flow is known exactly."""

import math

import pytest
import torch
from support.conformance import gaussian, mixture, order, starts

from ddim.diffusion.schedule import level
from ddim.diffusion.solvers import SOLVERS, find
from ddim.diffusion.walk import last, walk

START, END = 500, 100


class Counting:
    """A model that counts its calls."""

    def __init__(self, model):
        self.model, self.abar, self.calls = model, model.abar, 0

    def __call__(self, x, t):
        self.calls += 1
        return self.model(x, t)


def even(abar: torch.Tensor, S: int, variable: str) -> list[float]:
    """Times from START to END, evenly spread in σ̄ or in λ: between the integers, found by bisection."""

    def at(t: float) -> float:
        snr = level(abar, t) / (1 - level(abar, t))
        return (snr**-0.5).item() if variable == "sigma" else snr.log().item() / 2

    low, high = at(END), at(START)

    def time(value: float) -> float:
        a, b = float(END), float(START)
        for _ in range(60):
            middle = (a + b) / 2
            a, b = (middle, b) if (at(middle) - value) * (high - low) < 0 else (a, middle)
        return (a + b) / 2

    return [START, *(time(high + (low - high) * i / S) for i in range(1, S)), END]


@pytest.mark.parametrize("data", [gaussian, mixture])
@pytest.mark.parametrize("name", ["ddim", "heun", "unipc"])
@pytest.mark.parametrize("direction", ["down", "up"])
def test_the_error_falls_with_the_order_claimed(name: str, data, direction: str):
    model, x = data(), starts((32, 1, 1, 2))
    variable = "lambda" if name == "unipc" else "sigma"
    first, end = (START, END) if direction == "down" else (END, START)
    exact, errors = model.flow(x, first, end), {}
    for S in (40, 80, 160):
        grid = even(model.abar, S, variable)
        grid = grid if direction == "down" else grid[::-1]
        errors[S] = (last(walk(model, x, grid, name)).x - exact).square().mean().sqrt().item()
    assert order(errors) == pytest.approx(find(name).order, abs=0.2), errors
    assert errors[160] < errors[40] / 2


def test_implicit_and_exact_encoding_converge_with_their_orders():
    model = gaussian()
    x = starts((16, 1, 1, 2))
    for name in ("implicit", "exact"):
        errors = {}
        for S in (40, 80, 160):
            grid = even(model.abar, S, "sigma")[::-1]
            errors[S] = (last(walk(model, x, grid, name)).x - model.flow(x, END, START)).square().mean().sqrt().item()
        assert order(errors) == pytest.approx(SOLVERS[name].order, abs=0.2), (name, errors)


@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "implicit"])
@pytest.mark.parametrize("grid", [[1000, 0], [1000, 500, 0], [1000, 700.5, 300, 20, 0], [900, 400, 100]])
def test_evaluations_are_the_calls_counted(name: str, grid: list):
    for times in (grid, grid[::-1]):
        model = Counting(mixture())
        last(walk(model, starts((2, 1, 1, 2)), times, name))
        assert find(name).evaluations(times) == model.calls


def test_a_pair_turns_round_without_an_evaluation():
    model, grid = Counting(mixture()), [1000, 600, 300, 0]
    up = last(walk(model, starts((2, 1, 1, 2)), grid[::-1], "exact"))
    assert model.calls == 3
    model.calls = 0
    assert find("exact").evaluations(grid, up.state) == 2
    down = last(walk(model, up.x, grid, "exact", up.state))
    assert model.calls == 2
    assert (down.x - starts((2, 1, 1, 2))).abs().max() < 1e-12


def test_only_the_run_tells_what_implicit_steps_cost():
    assert find("implicit").evaluations([1000, 0]) is None


def test_a_walk_goes_on_from_a_state():
    """In two parts, with the state handed over, as in one: bit for bit."""
    model, grid = mixture(), [1000, 800, 600, 400, 200, 0]
    for name in ("heun", "unipc", "exact"):
        whole = last(walk(model, starts((2, 1, 1, 2)), grid, name)).x
        first = last(walk(model, starts((2, 1, 1, 2)), grid[:4], name))
        assert torch.equal(last(walk(model, first.x, grid[3:], name, first.state)).x, whole)
        if name == "unipc":  # and without it, it is another walk
            assert not torch.equal(last(walk(model, first.x, grid[3:], name)).x, whole)
    assert math.isfinite(whole.sum())
