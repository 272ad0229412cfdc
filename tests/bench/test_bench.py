"""The benchmarks' own arithmetic, and that they are fair: the same function, in turns, in processes of their own."""

import argparse
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.command_line import environment
from support.models import tiny_model, tiny_network

import ddim
from ddim.diffusion import schedule
from ddim.evaluation import metrics
from ddim.evaluation.reference import reference
from ddim.networks.unet import UNet
from ddim.training.new_model import unet_config

BENCH = Path(__file__).parents[2] / "bench"
sys.path.append(str(BENCH))

import contest  # noqa: E402
import exact  # noqa: E402
import networks  # noqa: E402
import rates  # noqa: E402
import scaling  # noqa: E402

SCRIPT = """
import os, time
import contest
from player import Player

def contender(name, seconds, output, **options):
    def prepare():
        def turn():
            time.sleep(seconds)
            with open("turns", "a") as file:
                print(name, os.getpid(), os.environ.get("GOMP_SPINCOUNT"), file=file)
            return {"bytes": len(bytearray(int(options.get("told", 1))))}
        return Player(turn, lambda: output)
    kind = {k: v for k, v in options.items() if k != "told"}
    return contest.Contender(name, prepare, **kind)

o = contest.parser("").parse_args()
ballast = None if o.play else b"1" * 300 * 2**20
contest.hold([%s], o)
"""
SLOW, FAST = 'contender("slow", 0.2, [1.0, 2.0], told=2**26)', 'contender("fast", 0.05, [1.0, 2.0 + 1e-5], ours=True)'


def run(tmp_path: Path, *command: object) -> subprocess.CompletedProcess:
    env = environment(tmp_path)
    env.pop("GOMP_SPINCOUNT", None)  # a command that ran in this process sets it
    env["PYTHONPATH"] = f"{BENCH}:{env.get('PYTHONPATH', '')}"
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1200)


def held(tmp_path: Path, contenders: str) -> subprocess.CompletedProcess:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT % contenders)
    return run(tmp_path, script, "--turns", 2, "--json", "numbers.json")


def test_what_counts_is_the_median_of_the_paired_ratios():
    base, own = (contest.Contender(name, lambda: None) for name in "ab")
    base.seconds, own.seconds = [1.0, 10.0, 3.0, 8.0, 6.0], [1.0, 1.0, 3.0, 2.0, 2.0]
    assert contest.ratio(base, own) == 3.0  # of 1, 10, 1, 4, 3; the medians' own ratio would be 6 / 2, the means' 3.1
    own.seconds = [0.5, 10.0, 1.0, 2.0, 6.0]
    assert contest.ratio(base, own) == 2.0  # of 2, 1, 3, 4, 1; the ratio of the medians is 3


def test_contenders_take_turns_in_processes_of_their_own(tmp_path: Path):
    result = held(tmp_path, f'{SLOW}, {FAST}, contender("absent", 0, [], missing="not installed")')
    assert result.returncode == 0, result.stderr
    assert "left out: absent (not installed)" in result.stdout
    turns = [line.split() for line in (tmp_path / "turns").read_text().splitlines()]
    assert [name for name, *_ in turns] == ["slow", "fast"] * 3  # one turn each to warm up
    assert len({(name, process) for name, process, _ in turns}) == 2
    assert {(name, spin) for name, _, spin in turns} == {("slow", "None"), ("fast", "4000")}

    slow, fast = json.loads((tmp_path / "numbers.json").read_text())["contenders"].values()
    assert len(slow["seconds"]) == len(fast["seconds"]) == 2
    assert min(slow["seconds"]) >= 0.2
    assert slow["told"] == [{"bytes": 2**26}] * 2
    assert fast["apart"] == pytest.approx(1e-5 / 2.5**0.5)
    assert 60 * 2**20 < slow["peak"] - fast["peak"] < 70 * 2**20
    assert fast["peak"] < 200 * 2**20  # the contest's own 300 MiB are not counted


def test_another_function_is_refused_but_rounding_is_told(tmp_path: Path):
    result = held(tmp_path, f'{SLOW}, contender("odd", 0.05, [1.0, 2.1])')
    assert result.returncode == 1
    assert result.stderr.strip().endswith("contest: odd computes another function: 0.063 from the first one's output")
    assert (tmp_path / "turns").read_text().count("\n") == 2  # none was taken
    half = contest.Contender("half", lambda: None, dtype="bfloat16")
    contest.compare(half, [1.0, 2.0], [1.0, 2.1])
    assert half.apart == pytest.approx(0.1 / 2.5**0.5)


def test_a_contender_that_fails_ends_the_contest(tmp_path: Path):
    result = held(tmp_path, f'{SLOW}, contender("broken", 0.05, [1.0], told="lots")')
    assert result.returncode == 1
    assert "invalid literal for int()" in result.stderr
    assert result.stderr.strip().endswith("contest: broken ended with status 1; it said why above")


def test_weights_that_differ_are_another_function():
    o = argparse.Namespace(device="cpu", size=8)
    network, other = (tiny_network(channels=3) for _ in range(2))
    c = contest.Contender("other", lambda: None)
    contest.compare(c, networks.answer(network, o, 2), networks.answer(other, o, 2))
    assert c.apart == 0
    other.conv_in.weight[0, 0] *= 1.1
    with pytest.raises(SystemExit, match="other computes another function"):
        contest.compare(c, networks.answer(network, o, 2), networks.answer(other, o, 2))


def test_the_contest_is_on_the_papers_network():
    o = argparse.Namespace(ch=128, size=32)
    assert networks.preset(o).network.dropout == 0
    assert rates.flop(networks.preset(o)) == pytest.approx(12.4e9, rel=0.005)
    with torch.device("meta"):
        network = UNet(unet_config(networks.preset(o)))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(35.7e6, rel=0.002)


def test_a_straight_line_is_found():
    assert scaling.line([10, 20, 50], [21.0, 41.0, 101.0]) == pytest.approx((1, 2, 1))
    assert scaling.line([0, 1, 2], [0.0, 0.0, 3.0]) == pytest.approx((-0.5, 1.5, 0.75))


@pytest.mark.slow  # the peak of the machine takes minutes to find
@pytest.mark.timeout(1800)
def test_sampling(tmp_path: Path):
    """The real contenders, small: the same function, and a row each."""
    command = (BENCH / "sampling.py", "--ch", 32, "--size", 16, "--images", 1, "--steps", 1, "--turns", 1)
    result = run(tmp_path, *command, "--json", "numbers.json")
    assert result.returncode == 0, result.stderr
    assert "left out: official, float32" in result.stdout
    found = json.loads((tmp_path / "numbers.json").read_text())["contenders"]
    assert set(found) - {"ddim, int8"} == {"diffusers, float32", "ddim, float32", "ddim, bfloat16"}
    assert 0 < found["ddim, float32"]["apart"] < 1e-4 < found["ddim, bfloat16"]["apart"] < 0.3
    assert 0 < found["ddim, float32"]["told"][0]["outside"] < 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("training.py", "--ch", 32, "--size", 16, "--batch-size", 2, "--steps", 1, "--turns", 1),
        ("startup.py", "--turns", 1),
        ("scaling.py", "steps", "--at", 2, 4, "--images", 2, "--turns", 1),
        ("scaling.py", "batch", "--ch", 32, "--at", 1, 2, "--turns", 1),
        ("scaling.py", "processes", "--threads", 2, "--images", 2, "--turns", 1),
        ("scaling.py", "memory", "--at", 2, 4, "--images", 2),
    ],
    ids=lambda command: f"{command[0]} {command[1]}",
)
def test_the_others_run(tmp_path: Path, command: tuple):
    result = run(tmp_path, BENCH / command[0], *command[1:])
    assert result.returncode == 0, result.stderr
    assert "| -" in result.stdout


def test_the_exact_eps_of_the_mixture_is_its_score():
    """ε = −√(1−ᾱ) ∇ log q(x_t) against the gradient of torch's own density of the noised mixture."""
    generator = torch.Generator().manual_seed(0)
    model = exact.Mixture(torch.randn(200, 1, 3, 2, generator=generator).exp().double(), components=3, directions=4)
    x = torch.randn(5, 1, 3, 2, generator=generator, dtype=torch.float64)
    for t in (1, 300, 1000):
        a = model.abar[t]
        axes = torch.stack([torch.block_diag(turn, torch.eye(2, dtype=torch.float64)) for turn in model.axes])
        axes = model.basis @ axes  # (K, 6, 6)
        variances = torch.cat([model.variances, model.others.expand(3, -1)], 1)
        means = model.mean + torch.nn.functional.pad(model.means, (0, 2)) @ model.basis.T
        spread = axes @ (a * variances + 1 - a).diag_embed() @ axes.mT
        parts = torch.distributions.MultivariateNormal(a.sqrt() * means, spread)
        noised = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(model.weights.double()), parts)
        at = x.flatten(1).requires_grad_()
        (score,) = torch.autograd.grad(noised.log_prob(at).sum(), at)
        torch.testing.assert_close(model(x, t).eps.flatten(1), -(1 - a).sqrt() * score, rtol=1e-5, atol=1e-6)


def test_with_exact_eps_less_noise_is_better(tmp_path: Path, monkeypatch, capsys):
    """The paper's pattern, on digits: down each column of the table FID rises with η."""
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    options = {"data": "digits", "components": 20, "directions": 64, "n": 500, "steps": [5, 10], "eta": [0, 0.5, 1]}
    exact.measure(argparse.Namespace(**options))
    rows = [line.split("|")[2:-1] for line in capsys.readouterr().out.splitlines() if "η =" in line]
    assert len(rows) == 3
    for column in zip(*rows, strict=True):
        fids = [float(cell.split()[0]) for cell in column]
        assert fids == sorted(fids)
        assert fids[0] < 0.9 * fids[1] < 0.9 * fids[2]


def test_the_comparison_of_variances(tmp_path: Path):
    """A row for each way to sample; its FID is that of the images of `ddim.sample`, its bits/dim are those of
    `ddim.likelihood`; a second call measures what is new alone."""
    model = replace(tiny_model(out_channels=2), abar=schedule.linear(50))
    ddim.save(model, tmp_path / "model")
    how = ("digits", "--models", "model", "--data", "digits", "--n", 70, "--out", "out")
    assert run(tmp_path, BENCH / "improved.py", *how, "--steps", 2, "--held", 0).returncode == 0
    first = json.loads((tmp_path / "out/improved.json").read_text())
    result = run(tmp_path, BENCH / "improved.py", *how, "--steps", 2, 3, "--held", 3, "--test", "digits")
    assert result.returncode == 0, result.stderr
    kept = json.loads((tmp_path / "out/improved.json").read_text())
    assert first.items() <= kept.items()
    assert all(f"| {way} |" in re.sub(r" +", " ", result.stdout) for way in ("DDIM", "DDPM small", "DDPM learned"))
    images = ddim.data.to_uint8(ddim.sample(model, 70, 3, 1.0, variance="learned", solver="ddim"))
    against = reference(model, "digits", n=70)
    expected = metrics.fid(against.statistics, metrics.statistics(against.features, images))
    assert kept["model | DDPM learned | 3 | 70"]["fid"] == pytest.approx(expected, rel=1e-3)
    digits = ddim.data.load(ddim.data.find("digits", 8, 1))[:3]
    bits = {name: found["mean"] for name, found in kept["model | bits | 3"].items() if name != "n"}
    for variance in ("small", "large", "learned"):
        mean = ddim.likelihood(model, digits, variance=variance).mean
        assert bits[f"DDPM {variance}"] == pytest.approx(mean, rel=1e-4)
    assert (tmp_path / "out/improved.png").stat().st_size > 10_000
