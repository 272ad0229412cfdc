"""The real command line in a process of its own, and its refusals."""

import os
import subprocess
import sys
from pathlib import Path


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "ddim", *map(str, args)]


def environment(tmp_path: Path) -> dict[str, str]:
    """One thread, a cache of its own, and no Hub."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "DDIM_CACHE": str(tmp_path / "cache"),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
    }


def refused(result: subprocess.CompletedProcess, *words: str) -> None:
    """Assert that a command refused: status 2, one line on stderr that holds `words`, no traceback."""
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("ddim: ")
    for word in words:
        assert word in lines[0], lines[0]
