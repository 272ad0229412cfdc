"""ddim explore: its sheet and what it says."""

from pathlib import Path

import pytest
import torch
from support.command_line import refused
from support.models import labelled_model

import ddim
from ddim import plots


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A model, and images of two classes: bright above, bright below."""
    ddim.save(labelled_model(), tmp_path / "model")
    generator = torch.Generator().manual_seed(0)
    for name, rows in (("above", slice(0, 4)), ("below", slice(4, 8))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(8):
            image = 0.2 * torch.randn(1, 8, 8, generator=generator) - 0.5
            image[:, rows] += 1
            plots.save(plots.to_pil(image), tmp_path / "data" / name / f"{k}.png")
    return tmp_path


def test_components_of_the_middle(ddim_cli, place):
    result = ddim_cli("explore", "digits", "--n", 12, "--rows", 3, "--columns", 5, "--steps", 3)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("of the variance (white noise:") == 3
    assert "+0.00: a pixel differs by 0.000" in result.stdout
    found = ddim.directions_figure(ddim.load("digits", "cpu"), place / "again", n=12, rows=3, columns=5, steps=3)
    assert found.sheet.read_bytes() == (place / "explore" / "directions.png").read_bytes()
    changes = [change for _, change in found.changes]
    assert changes[2] == 0 < changes[1] < changes[0]
    assert changes[3] < changes[4]


@pytest.mark.parametrize("space", ["latent", "middle"])
def test_from_class_to_class(ddim_cli, place, space):
    how = ("explore", "model", "data", "--classes", "above", "below", "--steps", 4, "--space", space, "--rows", 2)
    result = ddim_cli(*how)
    assert result.returncode == 0, result.stderr
    apart = float(result.stdout.split("above and below lie ")[1].split()[0])
    assert apart > 1  # such images differ at every level
    back = ddim_cli(*how[:4], "below", "above", *how[6:], "--out", "back")
    assert back.returncode == 0
    assert abs(float(back.stdout.split("lie ")[1].split()[0]) - apart) < 0.02  # the same direction, the other way


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--space", "latent"), "latents of seeds are white noise, of no class: name images"),
        (("--classes", "above", "below"), "name images"),
        (("data", "--classes", "above", "beside"), "no image is of class 'beside'; there are above, below"),
        (("data", "--classes", "above", "below", "--n", 6), "needs four images of each"),
        (("data", "--pick", 40), "image 40 is not there: give a number from 0 to 15"),
        (("data", "--rows", 30), "16 images have 15 components at most; asked for 30"),
        (("data", "--columns", 1), "--columns must be at least 2"),
    ],
)
def test_what_cannot_be_is_said(ddim_cli, place, args, said):
    result = ddim_cli("explore", "model", *args, "--steps", 2)
    result.stderr = "\n".join(line for line in result.stderr.splitlines() if "━" not in line)
    refused(result, said)
