"""Signals that reach every process of a training, and the record of where its images are."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.command_line import environment, refused
from support.training import LONG, OPTIONS

from ddim.images.cache import decode_all
from ddim.images.sources import Folder
from ddim.training import trainer

LARGE = """
import sys
import ddim.images.cache as cache
cache.MEMORY = 0  # every set counts as too large for memory, so that workers decode
from ddim.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def folder_of(path: Path) -> Path:
    path.mkdir()
    for k in range(20):
        Image.new("L", (8, 8), k).save(path / f"{k:02d}.png")
    return path


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_of_a_job_stops_it_saved(tmp_path: Path, how: signal.Signals):
    """As a terminal sends Ctrl-C and a batch system SIGTERM: to the workers that decode, too."""
    args = ["train", "digits", "--data", folder_of(tmp_path / "images"), "--out", "run", "--workers", "2", *OPTIONS]
    process = subprocess.Popen(
        [sys.executable, "-c", LARGE, *map(str, args), "--steps", str(LONG), "--log-every", "1"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log, until = tmp_path / "run" / "log.jsonl", time.monotonic() + 900
    while not (log.exists() and log.read_text().count("\n") >= 2):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, how)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    assert err.count("ddim: stopping after this step") == 1
    assert "Traceback" not in err
    step = torch.load(tmp_path / "run" / "state" / "last.pt", weights_only=True)["step"]
    assert json.loads(log.read_text().splitlines()[-1])["step"] == step
    assert "--resume" in out


@pytest.mark.parametrize("more", [(), ("--time", "20s")], ids=["steps", "time"])
def test_a_stop_before_the_first_step_is_resumed_and_begun_anew(more, tmp_path: Path, ddim_cli, monkeypatch, alone):
    """While the images are decoded: by --resume with the same settings, and by the plain command."""

    def stopped(source):
        raise KeyboardInterrupt

    begin = ("train", "digits", "--data", folder_of(tmp_path / "images"), "--seed", 5, *OPTIONS, "--steps", 2, *more)
    for how in (("train", "digits", "--resume"), begin):
        out = ("--out", f"run{len(how)}")
        with monkeypatch.context() as patch:
            patch.setattr(trainer, "load_numbered", stopped)
            result = ddim_cli(*begin, *out)
        assert (result.returncode, result.stderr.splitlines()[-1]) == (130, "ddim: interrupted")
        resume = f"ddim train digits --out {tmp_path / out[1]} --resume"
        assert result.stdout.splitlines()[-1] == f"stopped before the first step; continue with: {resume}"
        result = ddim_cli(*how, *out)
        assert result.returncode == 0, result.stderr
        kept = json.loads((tmp_path / out[1] / "train.json").read_text())
        assert (kept["seed"], kept["steps"], "unplanned" in kept) == (5, 2, False)
    refused(ddim_cli(*begin, *out), "already holds a run; pass --resume to continue it")


def test_a_stop_while_images_are_decoded_does_not_wait_for_them(tmp_path: Path):
    decoded = []

    class Slow(Folder):
        def decode(self, i):
            decoded.append(i)
            time.sleep(0 if i < 4 else 1)
            if i == 2:
                raise KeyboardInterrupt
            return torch.zeros(1, 8, 8, dtype=torch.uint8)

    for k in range(200):
        (tmp_path / f"{k}.png").touch()
    with pytest.raises(KeyboardInterrupt):
        decode_all(Slow(tmp_path, 8, 1))
    assert len(decoded) < 150


def test_the_record_shows_where_the_images_are_now(tmp_path: Path, ddim_cli):
    """The same images elsewhere are a change; another spelling of the same folder is none."""
    folder_of(tmp_path / "a")
    folder_of(tmp_path / "b")
    begin = ["train", "digits", "--data", "a", "--out", "run", *OPTIONS, "--steps", "2"]
    assert ddim_cli(*begin).returncode == 0
    resume = ["train", "digits", "--out", "run", "--resume"]
    assert ddim_cli(*resume, "--data", f"../{tmp_path.name}/a", "--steps", 3).returncode == 0
    assert ddim_cli(*resume, "--data", "b", "--steps", 4).returncode == 0
    changes = json.loads((tmp_path / "run" / "train.json").read_text())["changes"]
    assert changes == [{"step": 2, "steps": 3}, {"step": 3, "data": str(tmp_path / "b"), "steps": 4}]
