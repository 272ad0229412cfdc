"""The command line in this process, or in one of its own, and its refusals."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import torch

from ddim.cli.main import main


class Output(io.StringIO):
    """A standard output that a command may reconfigure."""

    encoding = "utf-8"

    def reconfigure(self, **how: str) -> None:
        pass


def in_process(tmp_path: Path, *args: object) -> subprocess.CompletedProcess:
    """Run `ddim …` in `tmp_path` in this process; what it changes of torch's settings is put back.

    An uncaught exception is a bug, and the test's to fail by.
    """
    before, precision, out, err = Path.cwd(), torch.get_float32_matmul_precision(), Output(), Output()
    os.chdir(tmp_path)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([str(arg) for arg in args])
    finally:
        os.chdir(before)
        torch.set_float32_matmul_precision(precision)
        torch.set_flush_denormal(False)
        if state := sys.modules.get("accelerate.state"):
            state.AcceleratorState._reset_state(reset_partial_state=True)
    return subprocess.CompletedProcess(args, status, out.getvalue(), err.getvalue())


def command(*args: object) -> list[str]:
    """`ddim …` as a process."""
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
