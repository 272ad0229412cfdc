"""The notebooks: written from their scripts, and running: cell by cell with small numbers; when slow, as notebooks."""

import ast
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

import ddim
from ddim.evaluation.records import Record

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from notebooks import cells_of, notebook_of  # noqa: E402

SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))


def values(script: str) -> tuple[list[object], dict]:
    """Run a script cell by cell: what each cell shows, the value of its last line, and the variables at the end."""
    shown, found = [], {}
    for kind, text in cells_of(script):
        if kind == "code":
            body = ast.parse(text).body
            last = body.pop() if isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), "cell", "exec"), found)
            shown.append(last and eval(compile(ast.Expression(last.value), "cell", "eval"), found))
    return shown, found


def run(number: int, folder: Path, monkeypatch, *small: tuple[str, str]) -> tuple[list[object], dict]:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DDIM_CACHE", str(folder / "cache"))
    script = SCRIPTS[number - 1].read_text(encoding="utf-8")
    for pattern, value in small:
        assert re.search(pattern, script), pattern
        script = re.sub(pattern, value, script)
    return values(script)


def test_the_notebooks_are_of_their_scripts():
    import nbformat

    assert [path.stem[:2] for path in SCRIPTS] == ["1_", "2_", "3_", "4_"]
    for path in SCRIPTS:
        text = nbformat.writes(notebook_of(path.read_text(encoding="utf-8"))) + "\n"
        assert path.with_suffix(".ipynb").read_text(encoding="utf-8") == text, "run python tools/notebooks.py"
        nbformat.validate(nbformat.reads(text, 4))


def test_first_steps(tmp_path: Path, monkeypatch):
    shown, _ = run(1, tmp_path, monkeypatch, ("steps=50", "steps=5"), (r"10, 50\)", "10, 12)"))
    assert isinstance(shown[0], ddim.Model)
    assert sum(isinstance(value, Image.Image) for value in shown) == 4
    assert len(list((tmp_path / "first-steps").iterdir())) == 4


def test_latents(tmp_path: Path, monkeypatch, capsys):
    shown, found = run(2, tmp_path, monkeypatch, ("steps = 50", "steps = 10"))
    error = {name: (found[name] - found["images"]).abs().max().item() for name in ("back", "same")}
    assert error["same"] < 1e-3 < error["back"]
    # Along the direction the images become brighter, which is what it was made for.
    rows = ddim.decode(found["model"], found["z"][:1] + 1.5 * found["direction"], steps=10)
    assert rows.mean() > found["back"][:1].mean() + 0.1
    assert sum(isinstance(value, Image.Image) for value in shown) == 6


def test_a_solver_of_your_own(tmp_path: Path, monkeypatch):
    _, found = run(3, tmp_path, monkeypatch)
    (_, a, b), (_, c, d) = found["errors"]["ddim"], found["errors"]["ours"]
    assert a / b == pytest.approx(2, rel=0.1)
    assert c / d == pytest.approx(4, rel=0.15)
    assert d < b / 5


def test_evaluating_honestly(tmp_path: Path, monkeypatch):
    shown, found = run(
        4, tmp_path, monkeypatch, ("N = 400", "N = 80"), (r"\(5, 20\)", "(2, 20)"), (r"\(10, 50\)", "(2, 4)")
    )
    records = [value for value in shown if isinstance(value, Record)]
    assert len(records) == 2
    assert "FID, S =" in records[0]._repr_html_()
    assert records[0]._repr_html_().count("<img") == 2
    assert found["fewer"]["cells"][0]["fid"] > found["found"]["cells"][-2]["fid"]  # fewer images, a larger FID


@pytest.mark.slow
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_runs_as_it_is(path: Path, tmp_path: Path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    book = notebook_of(path.read_text(encoding="utf-8"))
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = {kind for cell in book.cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
    assert kinds & {"image/png", "text/html"}
