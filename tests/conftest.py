"""Fixtures of all tests."""

import subprocess
from pathlib import Path

import pytest
import torch
from support.command_line import command, environment
from support.models import tiny_model

from ddim.diffusion.model import Model

# Two test processes with two threads each would fight over two cores.
torch.set_num_threads(1)


@pytest.fixture
def model() -> Model:
    return tiny_model()


@pytest.fixture
def ddim_cli(tmp_path: Path):
    """Run `ddim …` in tmp_path in a process of its own: (args) -> CompletedProcess with text output."""

    def run(*args: object, **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            command(*args),
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=240,
            **options,
        )

    return run
