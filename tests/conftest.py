"""What tests share: small models, and the real command line in a subprocess."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ddim.diffusion import schedule
from ddim.diffusion.model import Model
from ddim.networks.unet import UNet, UNetConfig

# Two test processes with two threads each would fight over two cores.
torch.set_num_threads(1)


def tiny_network(seed: int = 0, channels: int = 1, size: int = 8, **changes) -> UNet:
    """A small U-Net with attention, every weight random: DDPM's initialisation would predict 0."""
    config = {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    network = UNet(UNetConfig(**config | changes)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network


def tiny_model(seed: int = 0, channels: int = 1, size: int = 8, predicts: str = "eps", **changes) -> Model:
    network = tiny_network(seed, channels, size, **changes)
    return Model(network, schedule.linear(), (channels, size, size), predicts)


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
