import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from support.models import tiny_model

import ddim
from ddim.diffusion import schedule
from ddim.errors import InputError


@pytest.mark.parametrize(
    ("ours", "theirs"), [("linear", "linear"), ("scaled-linear", "scaled_linear"), ("cosine", "squaredcos_cap_v2")]
)
def test_abar_is_the_public_implementations(ours: str, theirs: str):
    args = {"beta_start": 8.5e-4, "beta_end": 0.012} if ours == "scaled-linear" else {}
    reference = DDPMScheduler(1000, beta_schedule=theirs, **args).alphas_cumprod  # float32
    abar = schedule.SCHEDULES[ours]()
    assert abar.dtype == torch.float64
    assert len(abar) == 1001
    assert abar[0] == 1
    torch.testing.assert_close(abar[1:].float(), reference, rtol=2e-4, atol=1e-7)


def test_linear_abar_is_the_product_of_its_definition():
    T, product = 1000, 1.0
    abar = schedule.linear(T)
    for t in range(1, T + 1):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * (t - 1) / (T - 1))
        assert math.isclose(abar[t].item(), product, rel_tol=1e-12)


@pytest.mark.parametrize("spacing", ["linear", "quadratic"])
@pytest.mark.parametrize("T", [1, 2, 7, 100, 1000])
def test_asked_is_walked(spacing: str, T: int):
    for steps in range(1, T + 1):
        grid = schedule.times(T, steps, spacing)
        assert len(grid) == steps + 1
        assert grid[0] == T
        assert grid[-1] == 0
        assert all(t > s for t, s in pairwise(grid))


@pytest.mark.parametrize("power", ["1.5", "2.5", "7"])
def test_powers_walk_what_is_asked(power: str):
    for T in (1, 7, 100, 1000):
        for steps in range(1, T + 1, max(1, T // 40)):
            grid = schedule.times(T, steps, f"power-{power}")
            assert (len(grid), grid[0], grid[-1]) == (steps + 1, T, 0)
            assert all(t > s for t, s in pairwise(grid))
    found = schedule.times(1000, 5, f"power-{power}")[:-1]
    assert found == [max(math.floor(1000 * (i / 5) ** float(power)), i) for i in range(5, 0, -1)]


def test_the_first_and_second_powers_are_the_papers_grids():
    for steps in (1, 3, 7, 50, 999):
        assert schedule.times(1000, steps, "power-1") == schedule.times(1000, steps, "linear")
        assert schedule.times(1000, steps, "power-2.0") == schedule.times(1000, steps, "quadratic")


@pytest.mark.parametrize(("spacing", "rho"), [("log-snr", None), ("karras", 7)])
def test_levels_are_spread_evenly(spacing: str, rho: int | None):
    """In log σ̄, or in σ̄^(1/7), between the levels of T and 1."""
    for abar in (schedule.linear(), schedule.cosine(), schedule.scaled_linear(300)):
        for steps in (1, 2, 5, 30, len(abar) - 1):
            grid = schedule.grid(abar, steps, spacing)
            assert (len(grid), grid[0], grid[-1]) == (steps + 1, len(abar) - 1, 0)
            assert all(t > s for t, s in pairwise(grid))
            sigma = torch.stack([(1 / schedule.level(abar, t) - 1).sqrt() for t in grid[:-1]])
            gaps = (sigma ** (1 / rho) if rho else sigma.log()).diff()
            torch.testing.assert_close(gaps, gaps.mean().expand_as(gaps), rtol=1e-6, atol=1e-9) if steps > 1 else None
            assert grid[-2] == 1 or steps == 1
    silent = schedule.linear()
    silent[-1] = 0
    assert schedule.grid(silent, 4, spacing)[:2] == [1000, 999]


def test_what_is_no_spacing_is_one_line():
    for name in ("power-", "power-1e3", "cubic"):
        with pytest.raises(InputError, match=r"unknown spacing .*: choose one of linear, quadratic, power-1\.5"):
            schedule.times(1000, 10, name)
    with pytest.raises(InputError, match=r"spacing karras depends on the noise schedule: call ddim.schedule.grid"):
        schedule.times(1000, 10, "karras")
    with pytest.raises(InputError, match="steps must be from 1 to 1000"):
        schedule.grid(schedule.linear(), 1001, "karras")


def test_a_power_below_1_says_the_rule():
    with pytest.raises(InputError, match=r"^spacing power-0\.5: the P of power-P is at least 1; got 0\.5$"):
        schedule.times(1000, 10, "power-0.5")


def test_grids_are_the_papers_formula():
    assert schedule.times(1000, 8, "linear") == [1000, 875, 750, 625, 500, 375, 250, 125, 0]
    c = 1000 / 10**2
    assert schedule.times(1000, 10, "quadratic") == [math.floor(c * i * i) for i in range(10, -1, -1)]


@pytest.mark.parametrize("steps", [1, 3, 10, 20, 50, 100, 300, 999, 1000])
def test_official_grids(steps: int):
    """The official runner's own expressions, in its 0-based indices, and its repeats dropped."""
    linear = list(range(0, 1000, 1000 // steps))
    assert schedule.times(1000, steps, "official-linear") == [k + 1 for k in reversed(linear)] + [0]
    quadratic = [int(s) for s in list(np.linspace(0, np.sqrt(1000 * 0.8), steps) ** 2)]
    walked = sorted(set(quadratic), reverse=True)
    assert schedule.times(1000, steps, "official-quadratic") == [k + 1 for k in walked] + [0]


def test_official_grids_have_their_known_lengths():
    assert len(schedule.times(1000, 300, "official-linear")) - 1 == 334
    assert len(schedule.times(1000, 50, "official-quadratic")) - 1 == 49


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_out_of_range(steps: int):
    with pytest.raises(InputError, match="steps must be from 1 to 1000"):
        schedule.times(1000, steps)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([5], "at least two"),
        ([5, 5, 0], "must fall"),
        ([3, 5, 0], "must fall"),
        ([1001, 0], "0..1000"),
        ([3, -1], "0.."),
    ],
)
def test_times_by_hand(times: list[int], words: str):
    with pytest.raises(InputError, match=words):
        schedule.check_times(1000, times)
    assert schedule.check_times(1000, (900, 3, 0)) == [900, 3, 0]


def test_unknown_spacing_lists_those_there_are():
    with pytest.raises(InputError, match="official-quadratic"):
        schedule.times(1000, 10, "cubic")


def test_levels_between_the_integers():
    """Log-SNR is linear on [1, T], σ̄ on [0, 1]; whole times are the table's, bit for bit."""
    abar = schedule.linear()
    snr = (abar / (1 - abar)).log()
    for t in (1, 2, 500, 999):
        middle = schedule.level(abar, t + 0.25)
        assert (middle / (1 - middle)).log().item() == pytest.approx((0.75 * snr[t] + 0.25 * snr[t + 1]).item())
    quarter = schedule.level(abar, 0.25)
    assert (1 / quarter - 1).sqrt().item() == pytest.approx(0.25 * (1 / abar[1] - 1).sqrt().item())
    whole = schedule.level(abar, torch.arange(1001).double())
    assert torch.equal(whole.flatten(), abar)
    each = schedule.level(abar, torch.tensor([0.25, 500.25], dtype=torch.float64))
    assert each.shape == (2, 1, 1, 1)
    assert torch.equal(each.flatten(), torch.stack([quarter, schedule.level(abar, 500.25)]))


def test_levels_fall_with_time():
    for abar in (schedule.linear(), schedule.cosine(50), schedule.linear(1)):
        times = torch.linspace(0, len(abar) - 1, 997, dtype=torch.float64)
        levels = schedule.level(abar, times).flatten()
        assert (levels[1:] < levels[:-1]).all()


def test_no_level_before_a_last_one_without_signal():
    abar = torch.cat([schedule.linear(10), torch.zeros(1, dtype=torch.float64)])
    assert schedule.level(abar, 11) == 0
    with pytest.raises(InputError, match="ends without signal: no time between 10 and 11"):
        schedule.level(abar, 10.5)


def test_a_grid_of_broken_times():
    assert schedule.check_times(1000, [1000, 500.5, 20.0, 0]) == [1000, 500.5, 20, 0]
    with pytest.raises(InputError, match=r"times must fall; got 20\.5 followed by 20\.5"):
        schedule.check_times(1000, [1000, 20.5, 20.5, 0])


# What improved-diffusion's `space_timesteps` gives, plus one: its indices begin at 0.
SECTIONED = [
    (1000, "ddim25", [k + 1 for k in range(0, 1000, 40)]),
    (1000, "ddim7", [1, 144, 287, 430, 573, 716, 859]),
    (10, "2,3", [1, 5, 6, 8, 10]),
    (11, "3,1,2", [1, 3, 4, 5, 9, 11]),
    (1000, "4", [1, 334, 667, 1000]),
    (60, "5,10", [1, 8, 15, 23, 30, 31, 34, 37, 41, 44, 47, 50, 54, 57, 60]),
]


@pytest.mark.parametrize(("T", "name", "expected"), SECTIONED)
def test_sectioned_grids_of_improved_diffusion(T: int, name: str, expected: list[int]):
    assert schedule.times(T, len(expected), name) == [*reversed(expected), 0]
    with pytest.raises(InputError, match=rf"spacing {name} has {len(expected)} steps; got 8: give {len(expected)}, or"):
        schedule.times(T, 8, name)


def test_a_sectioned_grid_needs_no_number_of_steps():
    images = ddim.sample(tiny_model(), n=1, spacing="3,2", solver="ddim")
    assert torch.equal(images, ddim.sample(tiny_model(), n=1, times=[1000, 501, 500, 251, 1, 0], solver="ddim"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ddim300", "no whole stride over 1000 levels gives 300 steps"),
        ("600,10", "a section of 500 levels has from 1 to 500 steps; got 600"),
        ("10,0", "got 0"),
        ("10,", "unknown spacing '10,'"),
        ("ddim", "unknown spacing 'ddim'"),
    ],
)
def test_sections_that_cannot_be(name: str, words: str):
    steps = {"ddim300": 300, "600,10": 610, "10,0": 10}.get(name, 10)
    with pytest.raises(InputError, match=words):
        schedule.times(1000, steps, name)
