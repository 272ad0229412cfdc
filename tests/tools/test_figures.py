"""What draws the figures of README and docs/understand.md, small; and the exact model that its paths are of."""

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.models import labelled_model

import ddim

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import method_figures  # noqa: E402
import steps_figure  # noqa: E402


@pytest.mark.parametrize("t", [1, 40, 300, 1000])
def test_the_exact_model_predicts_the_mean_of_the_data(t: int):
    """E[x_0 | x_t] by a sum over a fine grid of data: Bayes, with no formula of the model's."""
    model = method_figures.TwoNumbers(ddim.schedule.linear())
    data = torch.linspace(-2, 2, 40_001, dtype=torch.float64)
    prior = sum(torch.exp(-((data - centre) ** 2) / (2 * 0.01)) for centre in (-1, 1))
    abar = model.abar[t]
    for x in (-1.3, -0.2, 0.0, 0.7):
        weight = prior * torch.exp(-((x - abar.sqrt() * data) ** 2) / (2 * (1 - abar)))
        expected = (weight * data).sum() / weight.sum()
        found = model(torch.full((1, 1, 1, 1), x, dtype=torch.float64), t).x0.item()
        assert found == pytest.approx(expected.item(), abs=1e-6)


def test_the_figure_of_the_readme(tmp_path: Path, monkeypatch, capsys):
    """A row a number of evaluations, all of the same latents and classes; here of random weights."""
    monkeypatch.setattr(steps_figure, "COUNTS", (6, 3))
    monkeypatch.setattr(steps_figure.ddim, "load", lambda name: labelled_model(tuple("0123456789")))
    steps_figure.main(tmp_path / "steps.png")
    said = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in said] == ["6 evaluations", "3 evaluations"]
    width, height = Image.open(tmp_path / "steps.png").size
    assert height == 2 + 2 * (16 + 2)
    assert width > 8 * 16


def test_every_picture_of_the_pages_is_there_and_used():
    pages = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    pictures = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.png")}
    assert {name for name in pictures if name not in pages} == set()
