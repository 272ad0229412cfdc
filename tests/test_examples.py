import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import environment

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def test_there_are_examples():
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run_and_are_short(path: Path, tmp_path: Path):
    assert len(path.read_text().splitlines()) <= 40
    result = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout
