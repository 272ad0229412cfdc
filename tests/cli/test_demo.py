"""The main job, as `make demo` runs it."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddim.cli.commands import demo

CELL, GAP = 64, 4  # of the figure, in pixels


def cells(path: Path) -> np.ndarray:
    """The pictures of the demo's figure, (6, 12, 64, 64), by its bottom right corner."""
    with Image.open(path) as sheet:
        array = np.array(sheet.convert("L"), dtype=float)
    step = CELL + GAP
    grid = array[GAP : GAP + 6 * step, array.shape[1] - 12 * step :]
    return grid.reshape(6, step, 12, step)[:, :CELL, :, :CELL].transpose(0, 2, 1, 3)


def test_an_untrained_demo_does_the_whole_job(tmp_path: Path, ddim_cli, monkeypatch):
    """Four steps of training: the table, the figure and the verdict are there, and the verdict is bad."""
    monkeypatch.setattr(demo, "TIMED", 12)
    monkeypatch.setattr(demo, "CLASSIFIED", 64)
    result = ddim_cli("demo", "--steps", 4)
    assert result.returncode == 0, result.stderr
    for steps in (1000, 100, 50, 20, 10):
        assert re.search(rf"│ DD[PI]M +│ {steps} ", result.stdout)
    assert re.search(r"│ unipc +│ 10 ", result.stdout)  # what `ddim sample` does by default
    sure = float(re.search(r"([\d.]+)% of 64 DDIM-50 samples", result.stdout)[1])
    assert sure < 60
    assert cells(tmp_path / "demo" / "demo.png").std() > 30


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_keeps_its_word(tmp_path: Path):
    """The number that the demo is judged by, and rows of the same digits: the same pictures whatever S."""
    import subprocess

    from conftest import command, environment

    env = {k: v for k, v in environment(tmp_path).items() if k != "OMP_NUM_THREADS"}
    result = subprocess.run(command("demo"), cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1700)
    assert result.returncode == 0, result.stderr
    sure, classes = re.search(
        r"([\d.]+)% of 256 DDIM-50 samples, in which it finds (\d+) of 10", result.stdout
    ).groups()
    assert float(sure) >= 80
    assert classes == "10"
    least = float(re.search(r"of samples: median [\d.]+, least ([\d.]+)", result.stdout)[1])
    assert least > 0.5  # a copy would be at 0
    _, *ddim_rows = cells(tmp_path / "demo" / "demo.png")
    others = np.abs(ddim_rows[0] - np.roll(ddim_rows[0], 1, axis=0)).mean()
    for row in ddim_rows[1:]:
        assert np.abs(row - ddim_rows[0]).mean() < 0.4 * others
