"""Jobs of two processes, by the real launchers, that lose one of them or are stopped."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from support.command_line import command, environment
from support.models import tiny_model
from support.training import LONG, OPTIONS, TINY, fit, losses
from torch import distributed

import ddim
from ddim import plots as plot
from ddim.diffusion.sampling import sample
from ddim.images.pixels import to_uint8
from ddim.system.processes import disconnect

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "ddim"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
ACCELERATE += ["--main_process_port", "0", "-m", "ddim"]


def interrupted(args: list[object], tmp_path: Path, started, rank: int | None, how: int) -> subprocess.CompletedProcess:
    """Send a signal to one of the processes that a launcher has started, or to the launcher, once `started()`."""
    process = subprocess.Popen(
        [str(arg) for arg in args],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not started():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until, "it never started"
        time.sleep(0.01)
    workers = {child.environ().get("RANK"): child for child in psutil.Process(process.pid).children()}
    assert {"0", "1"} <= workers.keys()
    (process if rank is None else workers[str(rank)]).send_signal(how)
    out, err = process.communicate(timeout=100)
    assert process.returncode != 0
    assert "ddim/cli.py" not in err, err  # no traceback of ours
    return subprocess.CompletedProcess(args, process.returncode, out, err)


def told(result: subprocess.CompletedProcess) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("ddim: ")]


def test_training_that_loses_a_process_and_is_stopped_goes_on(tmp_path: Path):
    """Two processes, of which one is killed; two again, told to stop: the losses are those of one alone."""
    run, log = tmp_path / "run", tmp_path / "run" / "log.jsonl"
    lines = lambda: log.read_text().count("\n") if log.exists() else 0  # noqa: E731
    begin = [*TORCHRUN, "train", "digits", "--out", "run"]
    result = interrupted([*begin, "--steps", LONG, *OPTIONS], tmp_path, lambda: lines() >= 14, 1, signal.SIGKILL)
    *early, line = told(result)
    # The launcher's SIGTERM may come before the connection breaks, in the middle of a step.
    assert early in ([], ["ddim: stopping after this step"])
    found = re.fullmatch(
        r"ddim: the process of rank 1, of 2, was lost at step (\d+); "
        rf"continue from step (\d+) with: ddim train digits --out {re.escape(str(run))} --resume",
        line,
    )
    assert found, line
    step, kept = map(int, found.groups())
    assert kept == torch.load(run / "state" / "last.pt", weights_only=True)["step"]
    assert kept <= step <= kept + 10
    assert not list(run.rglob(".ddim-part-*"))

    before = log.stat().st_mtime_ns
    gone_on = lambda: log.stat().st_mtime_ns > before and lines() >= kept + 4  # noqa: E731
    result = interrupted([*begin, "--resume"], tmp_path, gone_on, None, signal.SIGTERM)
    assert result.stdout.count(f"stopped, saved in run; continue with: ddim train digits --out {run} --resume") == 1
    assert told(result) == ["ddim: stopping after this step"]
    stopped = torch.load(run / "state" / "last.pt", weights_only=True)["step"]
    assert losses(run)[-1][0] == stopped > kept

    assert [step for step, _ in losses(run)] == list(range(1, stopped + 1))
    alone, _ = fit(TINY, steps=min(stopped, TINY.optimiser.steps))
    assert len(alone) >= 14
    assert max(abs(ours - theirs) for (_, ours), theirs in zip(losses(run), alone, strict=False)) < 1e-5


@pytest.mark.slow
def test_sampling_that_loses_a_process_goes_on(tmp_path: Path):
    folder = ddim.save(tiny_model(), tmp_path / "model")
    args = ("sample", folder, "--n", 80, "--steps", 60, "--eta", 1, "--batch-size", 8, "--out", "out")
    args += ("--precision", "fp32")
    out = tmp_path / "out"
    result = interrupted(
        [*ACCELERATE, *args], tmp_path, lambda: len(list(out.glob("0*.png"))) >= 24, 0, signal.SIGKILL
    )  # fmt: skip
    assert told(result) == ["ddim: the process of rank 0, of 2, was lost; the same command continues, in out"]
    made = {path: path.stat().st_mtime_ns for path in out.glob("0*.png")}
    assert 24 <= len(made) < 80
    subprocess.run(command(*args), cwd=tmp_path, env=environment(tmp_path), check=True, capture_output=True)
    kept = [path for path, when in made.items() if path.stat().st_mtime_ns == when]
    assert len(kept) >= len(made) // 8 * 8 - 8  # all but those of a batch that was being written
    pictures = torch.stack([plot.read(out / f"{k:05d}.png") for k in range(80)])
    assert torch.equal(
        pictures, to_uint8(sample(ddim.prepare(tiny_model(), "fp32"), n=80, steps=60, eta=1.0, batch_size=8))
    )
    assert not list(out.rglob(".ddim-part-*"))


def test_processes_disconnect_before_they_end(monkeypatch):
    """Where a launcher started them; a process of somebody else's group leaves it alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    disconnect()
    assert distributed.is_initialized()
    monkeypatch.setenv("WORLD_SIZE", "2")
    disconnect()
    assert not distributed.is_initialized()
    disconnect()
