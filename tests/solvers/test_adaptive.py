"""Adaptive steps: the error follows the tolerance, image by image, on data whose flow is known."""

import json
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from support.conformance import SPACINGS, mixture, starts
from support.models import tiny_model

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.solvers import Adaptive, find
from ddim.diffusion.walk import last, walk
from ddim.errors import InputError
from ddim.jobs.adaptive_steps import keep, summary
from ddim.jobs.sampling import sample_files

ENDS = {"down": (1000, 1), "up": (1, 1000), "from the data": (0, 1000), "half": (500, 300)}


def rms(x: torch.Tensor) -> torch.Tensor:
    return x.square().flatten(1).mean(1).sqrt()


@pytest.mark.parametrize(("first", "end"), ENDS.values(), ids=ENDS)
def test_the_error_falls_with_the_tolerance_at_the_cost_of_order_three(first: int, end: int):
    model, x = mixture(), starts((8, 1, 1, 2))
    x = model.flow(x, 1000, first) if first < 1000 else x
    exact = model.flow(x, max(first, 1), end)
    errors, costs = [], []
    for tolerance in (1e-3, 1e-5, 1e-7):
        found = last(walk(model, x, [first, end], Adaptive(tolerance)))
        errors.append(rms(found.x - exact).max().item())
        costs.append(found.state.evaluations.double().mean().item())
    floor = rms(model.flow(x, 0, 1) - x).max().item() if first == 0 else 0  # the first step, to t = 1, is DDIM's
    assert all(
        error < 100 * tolerance + 20 * floor for error, tolerance in zip(errors, (1e-3, 1e-5, 1e-7), strict=True)
    )
    if not floor:
        assert errors[2] < errors[1] / 30 < errors[0] / 900
    # What is estimated is 2M's error of a step, of order 3: a hundredth of it takes 100^(1/3) = 4.6 as many steps.
    assert 3 < costs[2] / costs[1] < 6


def test_the_estimate_bounds_the_error_and_evaluations_are_those_of_the_slowest():
    model, x = mixture(), starts((16, 1, 1, 2))
    exact, calls = model.flow(x, 1000, 1), []

    class Counting:
        abar = model.abar

        def __call__(self, x, t):
            calls.append(len(x))
            return model(x, t)

    state = None
    for found in walk(Counting(), x, [1000, 400, 1], Adaptive(1e-4)):
        state = found.state
    assert len(calls) == sum(calls) / 16
    assert state.evaluations.max() <= len(calls) <= 2 * state.evaluations.max()
    assert state.evaluations.min() < state.evaluations.max()
    assert (state.estimate > rms(found.x - exact)).all()


def test_an_image_does_not_depend_on_its_batch():
    model, x = mixture(), starts((16, 1, 1, 2))
    whole = last(walk(model, x, [1000, 300, 0], Adaptive(1e-3)))
    for k in (0, 7):
        alone = last(walk(model, x[k : k + 1], [1000, 300, 0], Adaptive(1e-3)))
        assert (alone.x - whole.x[k : k + 1]).abs().max() < 1e-12
        assert alone.state.evaluations[0] == whole.state.evaluations[k]


@pytest.mark.parametrize("spacing", SPACINGS)
def test_any_grid_is_walked_to_the_same_end(spacing: str):
    model, x = mixture(), starts((4, 1, 1, 2))
    for steps in (1, 2, 7, 50):
        grid = schedule.grid(model.abar, steps, spacing)
        exact = model.flow(x, grid[0], 0)
        assert rms(last(walk(model, x, grid, Adaptive(1e-4))).x - exact).max() < 0.02  # the last step is DDIM's


def test_a_schedule_that_ends_without_signal():
    abar = torch.cat([schedule.cosine(100)[:-1], torch.zeros(1, dtype=torch.float64)])
    model = tiny_model()
    model = ddim.Model(model.network, abar, model.shape, "v")
    x = last(walk(model, starts((3, 1, 8, 8)).float(), [100, 0], Adaptive(0.05))).x
    assert x.isfinite().all()


def test_round_trip_of_real_images():
    model, x = ddim.load("digits", "cpu"), torch.from_numpy(load_digits().images[:8]).float()[:, None] / 8 - 1
    worst = {}
    for solver in ("ddim", "adaptive-0.001"):
        z = ddim.encode(model, x, 10, solver=solver)
        worst[solver] = rms(ddim.decode(model, z, 10, solver=solver) - x).max().item()
    assert worst["adaptive-0.001"] < 0.01 < worst["ddim"] / 5, worst


@pytest.mark.parametrize(
    ("name", "words"),
    [("adaptive-0", "above 0"), ("adaptive--1", "above 0"), ("adaptive-x", "tolerance"), ("adaptive-nan", "above 0"),
     ("adaptive-inf", "above 0"), ("adaptive+afs", "no \\+afs"), ("adaptive-0.1+afs", "tolerance")],
)  # fmt: skip
def test_bad_names(name: str, words: str):
    with pytest.raises(InputError, match=words):
        find(name)


def test_names_and_values():
    assert find("adaptive") == Adaptive() == Adaptive(0.01)
    assert (find("adaptive-0.5").name, find("adaptive-0.5").tolerance) == ("adaptive-0.5", 0.5)
    assert find("adaptive").evaluations([1000, 0]) is None
    with pytest.raises(InputError, match="takes no noise"):
        ddim.sample(tiny_model(), 1, eta=0.5, solver="adaptive")


def test_a_job_keeps_a_line_an_image(tmp_path: Path):
    model = tiny_model()
    made = sample_files(model, tmp_path / "out", 5, solver="adaptive-0.1", batch_size=2)
    lines = [json.loads(line) for line in (tmp_path / "out/evaluations.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == [0, 1, 2, 3, 4]
    assert all(line["evaluations"] >= 10 and line["estimate"] > 0 for line in lines)
    counts = [line["evaluations"] for line in lines]
    assert made.adaptive.startswith(f"{min(counts)} to {max(counts)} evaluations")
    assert sample_files(model, tmp_path / "out", 5, solver="adaptive-0.1", batch_size=2).adaptive == made.adaptive
    assert sample_files(model, tmp_path / "ddim", 2, solver="ddim", steps=2).adaptive is None


def test_a_summary_takes_the_last_line_of_an_image_and_passes_over_torn_ones(tmp_path: Path):
    file = tmp_path / "evaluations.jsonl"
    assert summary(file, 3) is None
    keep(file, range(2), None)
    assert not file.exists()
    line = '{"image": 0, "evaluations": %d, "estimate": %g}\n'
    file.write_text(line % (5, 1) + line % (7, 0.5) + line[:6])
    assert summary(file, 3).startswith("7 to 7 evaluations an image, 7.0 on average; the estimated errors of an")
    assert "steps add up to between 0.5 and 0.5: " in summary(file, 3)
