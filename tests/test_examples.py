"""The examples run as they are, and stay short."""

import os
import runpy
from pathlib import Path

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def run(name: str, tmp_path: Path, monkeypatch, capsys) -> tuple[str, dict]:
    """Run an example in tmp_path, in this process: what it printed, and its variables."""
    monkeypatch.chdir(tmp_path)
    variables = runpy.run_path(str(Path(EXAMPLES[0]).with_name(f"{name}.py")), run_name="__main__")
    return capsys.readouterr().out, variables


def test_all_examples_are_tested_and_short():
    assert [path.stem for path in EXAMPLES] == ["latents", "own_solver", "sample"]
    assert max(len(path.read_text().splitlines()) for path in EXAMPLES) <= 40


def test_sample(tmp_path: Path, monkeypatch, capsys):
    said, found = run("sample", tmp_path, monkeypatch, capsys)
    assert said == "digits.png\n"
    assert os.path.getsize("digits.png") > 1000
    assert found["images"].shape == (16, 1, 8, 8)


def test_latents(tmp_path: Path, monkeypatch, capsys):
    said, found = run("latents", tmp_path, monkeypatch, capsys)
    assert said.startswith("largest error 0.0")
    assert Path("path.png").exists()
    about, same = ((found[name] - found["images"]).abs().max() for name in ("back", "same"))
    assert same < 1e-3 < about < 0.1


def test_own_solver(tmp_path: Path, monkeypatch, capsys):
    """It is nearer to the limit than DDIM in as many evaluations, and the more so the more there are."""
    said, found = run("own_solver", tmp_path, monkeypatch, capsys)
    distances = [
        [float(word) for word in line.replace(",", " ").split() if word.startswith("0.")] for line in said.splitlines()
    ]
    assert len(distances) == 3
    ratios = [second / first for first, second in distances]
    assert 1 > ratios[0] > ratios[1] > ratios[2]
    assert ratios[2] < 0.3
    assert found["adams_bashforth"].order == 2
