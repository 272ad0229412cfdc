"""Fixtures of all tests."""

import os

os.environ |= {"HF_HUB_OFFLINE": "1", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}  # before what reads them is imported

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.command_line import command, environment, in_process
from support.models import tiny_model

from ddim.diffusion.model import Model

# Two test processes with two threads each would fight over two cores.
torch.set_num_threads(1)


@pytest.fixture
def model() -> Model:
    return tiny_model()


@pytest.fixture
def ddim_cli(tmp_path: Path, monkeypatch):
    """Run `ddim …` in tmp_path, in this process: (args) -> CompletedProcess with text output."""
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    return lambda *args: in_process(tmp_path, *args)


@pytest.fixture
def ddim_process(tmp_path: Path):
    """Run `ddim …` in tmp_path, in a process of its own: (args, **options) -> CompletedProcess with text output."""

    def run(*args: object, **options) -> subprocess.CompletedProcess:
        how = {"cwd": tmp_path, "env": environment(tmp_path), "capture_output": True, "text": True, "timeout": 1200}
        return subprocess.run(command(*args), **how | options)

    return run


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """One thread; what training changes for the whole process is put back."""
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    torch.set_num_threads(1)
    forget_accelerator()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    torch.set_float32_matmul_precision(precision)
    forget_accelerator()


def forget_accelerator() -> None:
    """Of another test, or of this one: a process has one, of one precision."""
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)
