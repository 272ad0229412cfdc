"""`ddim likelihood`: what it prints and writes, and what it refuses."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from support.command_line import refused
from support.models import labelled_model, tiny_model

import ddim


@pytest.fixture
def images(tmp_path) -> torch.Tensor:
    """Four random greyscale images, as files 0.png … in pictures/: (4, 1, 8, 8) uint8."""
    made = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(made):
        Image.fromarray(image).save(tmp_path / f"pictures/{i}.png")
    return torch.from_numpy(made)[:, None]


def test_the_bound_of_files_is_that_of_their_pixels(ddim_cli, tmp_path, images):
    ddim.save(tiny_model(), tmp_path / "model")
    result = ddim_cli("likelihood", "model", "pictures", "--steps", 5, "--variance", "large", "--batch-size", 3)
    assert result.returncode == 0, result.stderr
    expected = ddim.likelihood(tiny_model(), images, steps=5, variance="large")
    kept = json.loads((tmp_path / "likelihood/likelihood.json").read_text())
    assert kept["bits"] == pytest.approx(expected.bits.tolist(), rel=1e-4)
    assert kept["terms"] == pytest.approx(expected.bound.terms.mean(0).tolist(), rel=1e-4)
    assert kept["x0_error"] == pytest.approx(expected.bound.x0_error.mean(0).tolist(), rel=1e-4)
    assert kept["prior"] + kept["kl"] + kept["decoder"] == pytest.approx(kept["bits_per_dim"])
    assert kept["times"] == [1000, 800, 600, 400, 200, 0]
    error = expected.bits.std().item() / math.sqrt(4)
    assert f"{expected.mean:.4f} ± {error:.4f} bits/dim of 4 images" in result.stdout
    assert Image.open(tmp_path / "likelihood/terms.png").size[0] > 500


def test_the_ode_as_json(ddim_cli, tmp_path, images):
    ddim.save(labelled_model(("cat", "dog"), size=8), tmp_path / "model")
    how = ("--method", "ode", "--steps", 4, "--probes", 3, "--label", "dog", "--n", 3, "--seed", 2, "--json")
    result = ddim_cli("likelihood", "model", "pictures", *how)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    model = labelled_model(("cat", "dog"), size=8)
    expected = ddim.likelihood(model, images[:3], "ode", 4, probes=3, label="dog", seed=2)
    assert found["bits"] == pytest.approx(expected.bits.tolist(), rel=1e-4)
    assert found["halved"] == pytest.approx(expected.halved.mean().item(), rel=1e-4)
    assert found["gap"] == pytest.approx(expected.gap.mean().item(), rel=1e-3)
    assert found["probe_error"] == pytest.approx(expected.probe_error, rel=1e-3)
    assert (found["probes"], found["n"], found["evaluations"]) == (3, 3, 4 + 2 + 1)


def test_what_cannot_be_measured_is_refused(ddim_cli, tmp_path, images):
    ddim.save(tiny_model(), tmp_path / "model")
    ddim.save(labelled_model(), tmp_path / "labelled")
    deep = np.random.default_rng(0).integers(5000, 60000, (8, 8), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    calls = [
        (("model", "deep.png"), "deep.png: has more than 8 bits a sample; convert it to 8 bits first"),
        (
            ("model", "pictures", "--variance", "learned"),
            "has not learned its variance: choose variance small or large",
        ),
        (("model", "pictures", "--steps", 1001), "steps must be from 1 to 1000"),
        (("labelled", "pictures", "--label", "cow"), "unknown class 'cow': give one of cat, dog, ship"),
        (("model", "pictures", "--label", "cat"), "this model knows no classes: give no label"),
        (("model", "pictures", "--method", "ode", "--solver", "exact"), "solver exact inverts sampling"),
        (("model", "pictures", "--method", "ode", "--solver", "sde-dpm++2m"), "solver sde-dpm++2m"),
        (("model", "pictures", "--method", "ode", "--precision", "bf16"), "a network in bf16 has not: choose fp32"),
        (("model", "nothing.png"), "nothing.png: no such folder or file"),
    ]
    for call, words in calls:
        refused(ddim_cli("likelihood", *call), words)
    assert not (tmp_path / "likelihood/likelihood.json").exists()
