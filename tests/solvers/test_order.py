"""The order that a solver claims, measured between interior times on data whose flow is known exactly."""

import math

import pytest
import torch
from support.conformance import IN_LAMBDA, SAMPLING, Interior, even, gaussian, mixture, noises, order, starts

from ddim.diffusion.solvers import SOLVERS, find, with_noise
from ddim.diffusion.walk import last, walk

MODELS = {"gaussian": gaussian(), "mixture": mixture()}
WALKS: dict[tuple, Interior] = {}
CLAIMING = [name for name in SAMPLING if name != "sde-dpm++2m"]


class Counting:
    """A model that counts its calls."""

    def __init__(self, model):
        self.model, self.abar, self.calls = model, model.abar, 0

    def __call__(self, x, t):
        self.calls += 1
        return self.model(x, t)


def interior(data: str, first: int, end: int) -> Interior:
    """Shared, since the exact flow of a mixture is slow to find."""
    if (data, first, end) not in WALKS:
        WALKS[data, first, end] = Interior(MODELS[data], first, end)
    return WALKS[data, first, end]


@pytest.mark.parametrize("data", MODELS)
@pytest.mark.parametrize("name", CLAIMING)
def test_the_error_falls_with_the_order_claimed(name: str, data: str):
    """After an exact start, on grids even in the solver's own variable."""
    walks = interior(data, 500, 200 if name in IN_LAMBDA else 300)
    measured = walks.order(name, True, (80, 160, 320) if name == "ipndm" else (40, 80, 160))
    assert measured == pytest.approx(find(name).order, abs=0.15)


@pytest.mark.parametrize("name", CLAIMING)
@pytest.mark.parametrize(("first", "end"), [(500, 300), (300, 500)], ids=["down", "up"])
def test_an_ordinary_start_costs_no_more_than_the_third_order(name: str, first: int, end: int):
    """The first step is DDIM's, and errs by 1/S² once: what has order 2 or more keeps 2, down and up."""
    assert interior("mixture", first, end).order(name, history=False) > min(find(name).order, 2) - 0.15


def test_implicit_encoding_converges():
    model, errors = gaussian(), {}
    x = starts((16, 1, 1, 2))
    for S in (20, 40, 80):
        grid = even(model.abar, 100, 500, S, in_lambda=False)
        errors[S] = (last(walk(model, x, grid, "implicit")).x - model.flow(x, 100, 500)).square().mean().sqrt().item()
    assert order(errors) == pytest.approx(SOLVERS["implicit"].order, abs=0.2), errors


@pytest.mark.parametrize("name", [*SAMPLING, "ddim+afs", "heun+afs", "dpm++3m+afs", "unipc+afs", "sde-dpm++2m+afs"])
@pytest.mark.parametrize("grid", [[1000, 0], [1000, 500, 0], [1000, 700.5, 300, 20, 0], [900, 400, 100]])
def test_evaluations_are_the_calls_counted(name: str, grid: list):
    x = starts((2, 1, 1, 2))
    down_only = name.endswith("+afs") or name in ("sde-dpm++2m", "euler-t")
    for times in (grid, grid[::-1])[: 1 if down_only else 2]:
        model = Counting(mixture())
        last(walk(model, x, times, with_noise(name, 0, "small", noises(x.shape))))
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
    for name in ("ab3", "ipndm", "dpm++3m", "heun", "unipc3", "exact", "o-belm", "dpm++2m+afs"):
        whole = last(walk(model, starts((2, 1, 1, 2)), grid, name)).x
        first = last(walk(model, starts((2, 1, 1, 2)), grid[:4], name))
        assert torch.equal(last(walk(model, first.x, grid[3:], name, first.state)).x, whole)
        if name in ("ab3", "unipc3"):  # and without it, it is another walk
            assert not torch.equal(last(walk(model, first.x, grid[3:], name)).x, whole)
    assert math.isfinite(whole.sum())
