"""The files of what choices lead to."""

from pathlib import Path

import torch
from support.command_line import refused

import ddim
from ddim.images.pixels import to_uint8
from ddim.plots import sheets


def test_the_command_writes_what_python_gives(ddim_cli, tmp_path: Path):
    result = ddim_cli(
        "nearby", "digits", "--choices", 2, 1, "--distance", 0.4, 0.2, "--n", 4, "--seed", 3, "--steps", 3,
        "--precision", "fp32", "--device", "cpu",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    model = ddim.prepare(ddim.load("digits", "cpu"), "fp32")
    images = to_uint8(ddim.sample(model, noise=ddim.nearby(model, [2, 1], [0.4, 0.2], n=4, seed=3), steps=3))
    for k in range(4):
        assert torch.equal(sheets.read(tmp_path / "nearby" / f"{k:05d}.png"), images[k])
    assert (tmp_path / "nearby-sheet.png").is_file()
    again = ddim_cli("nearby", "digits", "--n", 4, "--steps", 2)
    assert again.returncode == 0, again.stderr


def test_other_files_are_left_alone(ddim_cli, tmp_path: Path):
    (tmp_path / "nearby").mkdir()
    (tmp_path / "nearby" / "mine.txt").write_text("mine")
    refused(ddim_cli("nearby", "digits", "--n", 2, "--steps", 2), "nearby: holds other files")
    refused(ddim_cli("nearby", "digits", "--choices", 1, 2, "--distance", 0.1, 0.2, 0.3), "3 of --distance for 2")
    assert [path.name for path in (tmp_path / "nearby").iterdir()] == ["mine.txt"]
