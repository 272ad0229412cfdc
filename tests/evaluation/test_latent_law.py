"""Latents against N(0, I): each number on noise of which it is known, and what the verb prints and writes."""

import json
from math import sqrt

import pytest
import torch
from PIL import Image
from support.command_line import refused
from support.models import tiny_model

import ddim
from ddim.diffusion.noise import normal
from ddim.evaluation.latent_law import NOISE, law, quantiles, shares

N, D = 4000, 64
NORMAL = normal(0, range(N), (1, 8, 8)).double()


def test_noise_has_the_law():
    found = law(NORMAL)
    expected = {"norm": 1 - 1 / (4 * D), "norm_deviation": 1 / sqrt(2 * D), "mean": 1 / sqrt(N), "deviation": 1.0}
    expected |= {"uneven": 1 / sqrt(2 * N), "skewness": 0.0, "kurtosis": 0.0, "neighbours": 0.0}
    assert found.keys() == expected.keys()
    for name, tolerance in dict.fromkeys(expected, 0.02).items():
        assert abs(found[name] - expected[name]) < tolerance, name
    assert abs(found["mean"] / expected["mean"] - 1) < 0.3
    assert abs(found["uneven"] / expected["uneven"] - 1) < 0.3


def test_each_number_sees_what_it_is_for():
    """Scaled, moved and uneven coordinates; a heavy tail; a skew; neighbours that share half of their noise."""
    assert law(2 * NORMAL)["norm"] == pytest.approx(2 * law(NORMAL)["norm"])
    assert law(2 * NORMAL)["deviation"] == pytest.approx(2 * law(NORMAL)["deviation"])
    assert law(NORMAL + 0.5)["mean"] == pytest.approx(0.5, abs=0.01)
    assert law(NORMAL + 0.5)["deviation"] == pytest.approx(law(NORMAL)["deviation"])
    sizes = torch.linspace(0.5, 1.5, D).view(1, 1, 8, 8)
    assert law(sizes * NORMAL)["uneven"] == pytest.approx(sizes.std().item(), abs=0.01)
    exponential = -torch.special.ndtr(NORMAL).log()  # skewness 2, kurtosis 9 − 3
    assert law(exponential)["skewness"] == pytest.approx(2, abs=0.1)
    assert law(exponential)["kurtosis"] == pytest.approx(6, abs=0.8)
    shared = (NORMAL[..., 1:, 1:] + NORMAL[..., :-1, 1:] + NORMAL[..., 1:, :-1] + NORMAL[..., :-1, :-1]) / 2
    assert law(shared)["neighbours"] == pytest.approx(0.5, abs=0.01)  # two of four in common
    coupled = NORMAL.clone()
    coupled[..., 1, :] = coupled[..., 0, :]  # 8 of 112 pairs
    assert law(coupled)["neighbours"] == pytest.approx(8 / 112, abs=0.01)


def test_quantiles_are_those_of_the_normal_distribution():
    expected = torch.special.ndtri(shares())
    middle = expected.abs() < 2
    assert (quantiles(NORMAL) - expected)[middle].abs().max() < 0.02
    assert (quantiles(3 * NORMAL + 1) - 3 * expected - 1)[middle].abs().max() < 0.06


def test_the_verb_measures_what_encode_gives(ddim_cli, tmp_path):
    ddim.save(tiny_model(), tmp_path / "model")
    how = ("--steps", 3, 5, "--solver", "ddim", "exact", "--n", 6, "--batch-size", 4)
    result = ddim_cli("latents", "model", "digits", *how)
    assert result.returncode == 0, result.stderr
    kept = json.loads((tmp_path / "latents-law/latents.json").read_text())
    assert [(row["solver"], row["steps"]) for row in kept["rows"]] == [
        *((name, S) for name in ("ddim", "exact") for S in (3, 5)), (NOISE, 0)
    ]  # fmt: skip
    images = ddim.data.to_float(ddim.data.load(ddim.data.find("digits", 8, 1))[:6])
    expected = law(ddim.encode(tiny_model(), images, steps=5))
    assert {name: kept["rows"][1][name] for name in expected} == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert {name: kept["rows"][-1][name] for name in expected} == pytest.approx(law(NORMAL[:6]), rel=1e-4, abs=1e-6)
    assert "latents of 6 images of 64 values" in result.stdout
    assert Image.open(tmp_path / "latents-law/latents.png").size[0] > 500


def test_what_cannot_be_measured_is_refused(ddim_cli, tmp_path):
    ddim.save(tiny_model(), tmp_path / "model")
    for call, words in (
        (("--steps", 1001), "steps must be from 1 to 1000"),
        (("--n", 1), "n must be at least 2; got 1"),
        (("--solver", "exact", "--steps", 1), "exact inversion needs at least 2 steps"),
        (("--solver", "euler-x"), "euler-x"),
    ):
        refused(ddim_cli("latents", "model", "digits", *call), words)
    assert not (tmp_path / "latents-law").exists()
