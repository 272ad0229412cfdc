"""Tuned solvers: what they are without corrections, what each correction does, and what they refuse."""

from dataclasses import replace

import pytest
import torch
from support.command_line import refused
from support.conformance import gaussian, mixture, starts
from support.models import tiny_model

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.course import course, sampling_course
from ddim.diffusion.model import Model
from ddim.diffusion.solvers import find
from ddim.diffusion.solvers.tuned import BASES, Tuned, Tuning
from ddim.diffusion.walk import last, walk


def plain(times: list, base: str = "dpm++3m", **changes) -> Tuned:
    """A base without corrections."""
    S = len(times) - 1
    return replace(
        Tuned(times=times, asked=times[:-1], x=[0.0] * S, x0=[(0.0, 0.0, 0.0)] * S, base=BASES[base]), **changes
    )


def with_solver(model: Model, *solvers: Tuned, weights: str = "") -> Model:
    tuning = Tuning(weights or model.fingerprint, {len(s.asked): s for s in solvers})
    return replace(model, facts=replace(model.facts, tuning=tuning))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("S", [1, 2, 3, 5, 10])
def test_without_corrections_it_is_its_base_on_its_times(base: str, S: int):
    model, x = mixture(), starts((16, 1, 1, 2))
    for times in (schedule.times(1000, S, "power-1.5"), [1000 * (1 - i / S) ** 1.3 for i in range(S + 1)]):
        mine, theirs = (last(walk(model, x, times, solver)).x for solver in (plain(times, base), base))
        assert torch.allclose(mine, theirs, rtol=1e-13, atol=1e-13)


def test_each_number_does_what_the_formula_says():
    """Two steps by hand, from the model's own predictions."""
    model, x = mixture(), starts((16, 1, 1, 2))
    times, asked = [1000, 400.5, 0], [990.25, 380]
    a, b = [0.1, -0.05], [(0.2, 7.0, 7.0), (-0.3, 0.15, 7.0)]  # of what is not there yet, nothing is taken
    found = last(walk(model, x, times, Tuned(times=times, asked=asked, x=a, x0=b, base=find("ddim")))).x

    def x0_of(x, t, told):
        eps, level = model(x, told).eps, schedule.level(model.abar, t)
        return (x - (1 - level).sqrt() * eps) / level.sqrt(), eps

    first, eps = x0_of(x, 1000, 990.25)
    middle = schedule.level(model.abar, 400.5)
    y = middle.sqrt() * first + (1 - middle).sqrt() * eps + 0.1 * x + 0.2 * first
    second, _ = x0_of(y, 400.5, 380)
    assert torch.allclose(found, second - 0.05 * y - 0.3 * second + 0.15 * first, rtol=1e-12, atol=1e-12)


def test_times_as_tensors_carry_gradients_and_give_the_same():
    """The derivative by a time, a told time and both coefficients, against differences."""
    model, x = gaussian(), starts((16, 1, 1, 2))
    values = torch.tensor([612.3, 230.6, 580.1, 0.02, -0.03], dtype=torch.float64)

    def end(v: torch.Tensor) -> torch.Tensor:
        v = [each.expand(16) for each in v[:3]] + list(v[3:])
        times, asked = [torch.full((16,), 1000.0), v[0], v[1], 0], [torch.full((16,), 1000.0), v[2], v[1]]
        solver = Tuned(times=times, asked=asked, x=[0, v[3], 0], x0=[(0, 0, 0), (0, v[4], 0), (0, 0, 0)])
        return last(walk(model, x.double(), times, solver)).x.square().sum()

    (gradient,) = torch.autograd.grad(end(values.requires_grad_()), values)
    for i, h in enumerate((1e-3, 1e-3, 1e-3, 1e-6, 1e-6)):
        step = torch.zeros(5, dtype=torch.float64)
        step[i] = h
        with torch.no_grad():
            slope = (end(values + step) - end(values - step)) / (2 * h)
        assert gradient[i].item() == pytest.approx(slope.item(), rel=1e-4), i


def test_it_is_not_clipped_unless_it_is_asked_for(model: Model):
    """It learned its numbers without."""
    model.network.conv_out.bias.fill_(30.0)  # so that x̂_0 is far out at the first times
    known = with_solver(model, plain([1000, 500, 0]))
    free, default, clipped = (
        last(ddim.generate(known, range(2), [1000, 500, 0], solver="tuned", clip=clip)).x
        for clip in (False, None, True)
    )
    assert torch.equal(free, default)
    assert not torch.equal(free, clipped)


def test_its_name_finds_it_by_the_number_of_steps(model: Model):
    times = [1000, 555.5, 123.4, 0]
    known = with_solver(model, plain(times), plain([1000, 300, 0]))
    want = ddim.sample(model, n=2, times=times, solver="dpm++3m", seed=4, clip=False)
    assert torch.allclose(ddim.sample(known, n=2, steps=3, solver="tuned", seed=4), want, atol=1e-6)
    x = ddim.noise.normal(4, range(2), model.shape)
    assert torch.allclose(ddim.decode(known, x, steps=3, solver="tuned", ).clamp(-1, 1),
                          ddim.sample(known, n=2, steps=3, solver="tuned", seed=4, clip=False), atol=1e-6)  # fmt: skip
    assert torch.equal(list(ddim.walk(known, x, times, "tuned"))[-1].x, ddim.decode(known, x, steps=3, solver="tuned"))
    assert course(known, "tuned", 2)[0] == [1000, 300, 0]
    assert sampling_course(known, solver="tuned").steps == max(known.facts.tuning.solvers)  # without a word on steps


REFUSED = {
    "another S": (lambda m: ddim.sample(m, steps=4, solver="tuned"), r"no tuned solver for 4 steps \(there are 3\); "),
    "how to get it": (lambda m: ddim.sample(tiny_model(), steps=4, solver="tuned"), "`ddim tune MODEL --steps 4` ma"),
    "other weights": (lambda m: ddim.sample(with_solver(m, plain([9, 0]), weights="0" * 16), steps=1, solver="tuned"),
                      "solvers.json was tuned to other weights .* `ddim tune MODEL --steps 1` again"),
    "encoding": (lambda m: ddim.encode(m, torch.zeros(1, 1, 8, 8), steps=3, solver="tuned"), "samples only"),
    "a value that encodes": (lambda m: ddim.encode(m, torch.zeros(1, 1, 8, 8), solver=m.facts.tuning.solvers[3]),
                             "walks down only, so it is not for encoding"),
    "times": (lambda m: ddim.sample(m, steps=3, times=[9, 0], solver="tuned"), "its own times: leave out times"),
    "a spacing": (lambda m: ddim.sample(m, steps=3, spacing="linear", solver="tuned"), "leave out spacing"),
    "other times": (lambda m: list(ddim.walk(m, torch.zeros(1, 1, 8, 8), [900, 5, 1, 0], "tuned")), "its own times"),
    "noise": (lambda m: ddim.sample(m, steps=3, eta=1, solver="tuned"), "takes no noise"),
    "afs": (lambda m: ddim.sample(m, steps=3, solver="tuned+afs"), r"takes no \+afs"),
    "steps of another kind": (lambda m: ddim.sample(m, steps="3", solver="tuned"), "steps must be a whole number"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_refuses_is_one_line(name: str, model: Model):
    call, line = REFUSED[name]
    with pytest.raises(ddim.InputError, match=line) as caught:
        call(with_solver(model, plain([1000, 500, 100, 0])))
    assert "\n" not in str(caught.value)


def test_the_command_line_refuses_what_cannot_be_beside_it(ddim_cli, tmp_path):
    for option in (("--spacing", "linear"), ("--times", 5, 0), ("--afs",)):
        refused(ddim_cli("sample", "digits", "--solver", "tuned", *option), "its own times", str(option[0]))
    assert not list(tmp_path.iterdir())
