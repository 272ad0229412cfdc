"""Sheets of chosen images."""

import numpy as np
import pytest
from PIL import Image
from support.command_line import refused
from support.models import tiny_model

import ddim
from ddim.plots import sheets


@pytest.mark.parametrize("format", ["png", "npz"])
def test_a_sheet_holds_the_picked_images_in_their_order(ddim_cli, tmp_path, format: str):
    """Its cells, read back from the file, are the images of these numbers, whatever the batch."""
    ddim.save(tiny_model(), tmp_path / "model")
    how = ("--n", 7, "--steps", 2, "--batch-size", 3, "--precision", "fp32", "--format", format, "--out", "s")
    made = ddim_cli("sample", "model", *how, "--pick", 5, 0, 6)
    assert made.returncode == 0, made.stderr
    assert "sheet of those picked: s-picked.png" in made.stdout
    images = ddim.data.to_uint8(ddim.sample(ddim.prepare(ddim.load(tmp_path / "model"), "fp32"), n=7, steps=2))
    expected = sheets.grid(images[[5, 0, 6]])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "s-picked.png")), np.asarray(expected))


def test_numbers_that_are_not_there_are_one_line(ddim_cli, tmp_path):
    ddim.save(tiny_model(), tmp_path / "model")
    line = "image 7 cannot be picked: the numbers of 7 images go from 0 to 6"
    refused(ddim_cli("sample", "model", "--n", 7, "--pick", 2, 7, "--out", "s"), line)
    refused(ddim_cli("sample", "model", "--n", 7, "--pick", -1, "--out", "s"), "--pick must be at least 0")
    refused(ddim_cli("sample", "model", "--n", 7, "--pick", "--out", "s"), "--pick needs at least one value")
    assert not (tmp_path / "s").exists()
    ddim.sample_files(tiny_model(), tmp_path / "t", n=2, steps=1)
    with pytest.raises(ddim.InputError, match="t: has no image 2"):
        ddim.picked(tmp_path / "t", [0, 2])
