"""Tuning: it gets nearer to the aim, does it reproducibly, and keeps what it finds."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from support.command_line import refused
from support.models import labelled_model, tiny_model

import ddim
from ddim.checkpoints import tuned_solvers
from ddim.cli.commands.tune import seconds_of
from ddim.diffusion.model import Model
from ddim.diffusion.schedule import level
from ddim.diffusion.solvers.tuned import Tuning
from ddim.evaluation import descent, tuning
from ddim.evaluation.encoder_distance import EncoderDistance, PixelDistance, distance_for


@pytest.fixture
def quick(monkeypatch):
    """A few pairs and steps."""
    for name, value in {"FEW": 4, "HELD_OUT": 8, "BATCH": 8, "LOOKS": 2, "FAMILY": ("linear", "quadratic")}.items():
        monkeypatch.setattr(tuning, name, value)


def test_it_gets_nearer_on_images_that_it_did_not_see(quick, tmp_path: Path):
    model = ddim.load("digits", "cpu")
    tuned = ddim.tune(model, steps=[3, 4], out=tmp_path, pairs=16, descent=12)
    for S in (3, 4):
        solver = tuned.facts.tuning.solvers[S]
        assert len(solver.asked) == S
        curve = solver.about["held_out"]
        assert min(row[1] for row in curve) < curve[0][1]
        fresh = descent.Pairs(model, 16, seed=7, batch_size=16)
        fresh.make(lambda n: None)
        before = tuning.untuned(model, S, solver.base.name, solver.about["start"])
        assert descent.apart(fresh, solver, range(16))[0] < descent.apart(fresh, before, range(16))[0]
    assert tuned_solvers.read(tmp_path / "solvers.json", 1000) == tuned.facts.tuning
    assert (tmp_path / "solvers.png").stat().st_size > 5000


def test_the_same_seed_gives_the_same_and_other_steps_are_kept(quick, model: Model):
    first = ddim.tune(model, steps=[3], pairs=16, descent=3, batch_size=3)
    both = ddim.tune(first, steps=[2], pairs=16, descent=3)
    assert both.facts.tuning.solvers[3] is first.facts.tuning.solvers[3]
    again = ddim.tune(model, steps=[2], pairs=16, descent=3).facts.tuning.solvers[2]
    assert again == both.facts.tuning.solvers[2]
    other = replace(first.facts.tuning, model="0" * 16)
    changed = replace(model, facts=replace(model.facts, tuning=other))
    assert set(ddim.tune(changed, steps=[2], pairs=16, descent=1).facts.tuning.solvers) == {2}


def test_what_does_not_help_is_not_kept(quick, model: Model, monkeypatch, caplog, capsys):
    monkeypatch.setattr(descent, "RATES", dict.fromkeys(descent.RATES, 30.0))
    solver = ddim.tune(model, steps=[3], pairs=16, descent=2).facts.tuning.solvers[3]
    assert solver.about["kept"] == 0
    assert "descent gained nothing" in capsys.readouterr().err
    assert solver == tuning.untuned(model, 3, solver.base.name, solver.about["start"])


def test_recomputed_activations_give_the_same_gradient(quick, model: Model, monkeypatch):
    """And a batch in parts: what little memory there is changes nothing."""
    want = ddim.tune(model, steps=[3], pairs=16, descent=4).facts.tuning.solvers[3]
    monkeypatch.setattr(descent, "free_memory", lambda device: 4 * 3 * one)
    one = descent.kept_bytes(descent.sampled(model, None), torch.zeros(1, 1, 8, 8), 1000)
    less = ddim.tune(model, steps=[3], pairs=16, descent=4).facts.tuning.solvers[3]
    assert torch.allclose(torch.tensor(less.times), torch.tensor(want.times), atol=0.1)
    assert torch.allclose(torch.tensor(less.x0), torch.tensor(want.x0), atol=1e-3)


def test_a_model_that_knows_classes_is_tuned_on_all_of_them(quick):
    model = labelled_model()
    pairs = descent.Pairs(model, 4, 0, 4, first=2)
    assert pairs.labels([0, 1, 2, 3]).tolist() == [2, 3, 0, 1]
    assert len(ddim.tune(model, steps=[2], pairs=8, descent=1).facts.tuning.solvers[2].asked) == 2


def test_the_distance_is_that_of_normalised_maps():
    """Against maps taken by hooks, of the whole network."""
    model = tiny_model(channels=3)
    seen, network = [], model.network
    for module in (network.conv_in, *network.down_blocks, network.mid_block):
        module.register_forward_hook(lambda module, args, out: seen.append(out))
    a, b = torch.rand(2, 2, 3, 8, 8).unbind()
    found = distance_for(model)(a, b)
    want = torch.zeros(2)
    for index in (9, 99):
        maps = []
        for images in (a, b):
            seen.clear()
            network(images, torch.full((2,), index))
            maps.append([x / x.norm(dim=1, keepdim=True) for x in seen])
        want += sum(((x - y) ** 2).sum(1).mean((1, 2)) for x, y in zip(*maps, strict=True))
    assert torch.allclose(found, want, rtol=1e-4)
    assert torch.equal(distance_for(model)(a, a), torch.zeros(2))


def test_a_network_without_an_encoder_is_measured_by_its_pixels():
    class Bare(torch.nn.Linear):
        pass

    assert isinstance(distance_for(replace(tiny_model(), network=Bare(1, 1))), PixelDistance)
    assert isinstance(distance_for(tiny_model()), EncoderDistance)
    a, b = torch.zeros(2, 1, 8, 8), torch.full((2, 1, 8, 8), 0.5)
    assert torch.allclose(PixelDistance()(a, b), torch.tensor(0.0625))


def test_times_stay_in_order_whatever_the_descent_does(model: Model):
    start = tuning.untuned(model, 4, "dpm++3m", "quadratic")
    found = descent.Coefficients(start, 1000)
    assert found.solver().times == pytest.approx(start.times, abs=0.5)
    for wild in ([9.0, 9.0, -30.0], [-40.0, 50.0, 3.0], [0.0, 0.0, 0.0]):
        with torch.no_grad():
            found.times.copy_(torch.tensor(wild, dtype=torch.float64))
        found.order()
        times = found.solver().times
        assert all(a > b for a, b in pairwise(times)), times
        assert times[-2] >= 1
        assert level(model.abar, times[1]) > model.abar[-1]


BROKEN = {
    "cut short": "{", "no object": "[]", "without solvers": '{"model": "a"}', "a word for S": {"x": {}},
    "too few": {"2": {"times": [1000, 0]}}, "rising": {"1": {"times": [0, 1000]}}, "not to 0": {"1": {"times": [9, 1]}},
    "beyond T": {"1": {"times": [1001, 0]}}, "a told time": {"1": {"asked": [-1]}}, "no base": {"1": {"base": "heun"}},
    "no number": {"1": {"x": ["a"]}}, "a row": {"1": {"x0": [[0, 0]]}}, "no rows": {"1": {"x0": 3}},
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_file_is_one_line_and_the_model_opens(name: str, model: Model, tmp_path: Path, ddim_cli):
    good = {"base": "ddim", "times": [1000, 0], "asked": [1000], "x": [0], "x0": [[0, 0, 0]]}
    content = BROKEN[name]
    if isinstance(content, dict):
        content = json.dumps({"model": "a", "solvers": {S: {**good, **change} for S, change in content.items()}})
    ddim.save(model, tmp_path / "m")
    (tmp_path / "m" / "solvers.json").write_text(content)
    result = ddim_cli("info", "m")
    assert result.returncode == 0
    assert len(result.stderr.splitlines()) == 1
    assert "m/solvers.json: " in result.stderr
    assert "remove it" in result.stderr


def test_saved_and_pushed_it_stays_beside_the_weights(model: Model, tmp_path: Path, ddim_cli):
    solver = tuning.untuned(model, 2, "dpm++2m", "quadratic")
    known = replace(model, facts=replace(model.facts, tuning=Tuning(model.fingerprint, {2: solver})))
    back = ddim.load(ddim.save(known, tmp_path / "m"), "cpu")
    assert back.facts.tuning == known.facts.tuning
    assert "tuned for" in ddim_cli("info", "m").stdout
    assert ddim_cli("sample", "m", "--solver", "tuned", "--steps", 2, "--n", 2).returncode == 0
    ddim.save(tiny_model(seed=1), tmp_path / "m")
    refused(ddim_cli("sample", "m", "--solver", "tuned", "--steps", 2), "of other weights"[3:], "ddim tune")
    assert "of other weights" in ddim_cli("info", "m").stdout


def test_the_verb_writes_beside_the_model_or_where_it_is_told(quick, model: Model, tmp_path: Path, ddim_cli):
    ddim.save(model, tmp_path / "m")
    first = ddim_cli("tune", "m", "--steps", 2, "--pairs", 8, "--time", "1s")
    assert first.returncode == 0, first.stderr
    assert "m/solvers.json" in first.stdout
    assert ddim_cli("tune", "m", "--steps", 3, "--pairs", 8, "--time", "1s").returncode == 0
    assert list(json.loads((tmp_path / "m" / "solvers.json").read_text())["solvers"]) == ["2", "3"]
    assert ddim_cli("tune", "m", "--steps", 2, "--pairs", 8, "--time", "1s", "--out", "other").returncode == 0
    assert ddim_cli("sample", "other", "--solver", "tuned", "--steps", 2, "--n", 1).returncode == 0
    ddim.save(tiny_model(seed=1), tmp_path / "taken")
    refused(ddim_cli("tune", "m", "--out", "taken"), "holds another model")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("--time", "soon"), "--time must be as 90s, 10m or 1.5h; got 'soon'"),
        (("--time", "0m"), "got '0m'"),
        (("--steps", "1"), "steps must be at least 2; got 1"),
        (("--steps", "21"), "at most 20; got 21"),
        (("--pairs", "3"), "pairs must be at least 32; got 3"),
        (("--steps", "4", "12", "--aim", "10"), "aim must be a number of steps from 12, the most to tune for"),
        (("--aim", "2000"), "to 1000; got 2000"),
    ],
)
def test_the_verb_refuses_in_one_line_and_writes_nothing(args, line, ddim_cli, tmp_path: Path):
    refused(ddim_cli("tune", "digits", *args), line)
    assert not list(tmp_path.iterdir())


def test_a_time_is_read():
    assert [seconds_of(text) for text in (None, "90s", "10m", "1.5h", "7")] == [None, 90, 600, 5400, 7]


def test_a_prepared_model_is_refused(model: Model):
    with pytest.raises(ddim.InputError, match="needs the model in float32"):
        ddim.tune(ddim.prepare(model, "bf16"), steps=[2])
