"""Sampling as a job, through the real command line: shared by processes, killed, gone on with."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.command_line import command, environment, refused
from support.models import tiny_model

import ddim
from ddim.diffusion.sampling import sample
from ddim.diffusion.walk import last
from ddim.images.pixels import to_uint8
from ddim.jobs import sampling as job
from ddim.jobs import timings
from ddim.jobs.image_files import Pngs, Shards
from ddim.system.processes import Alone


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return ddim.save(replace(tiny_model(), facts=ddim.Facts(data="digits")), tmp_path / "model")


def torchrun(*args: object) -> list[str]:
    """`ddim …` by two processes with gloo. After `--` torchrun leaves our options alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    return [*launcher, "-m", "--", "ddim", *map(str, args)]


def finish(args: list[str], tmp_path: Path) -> str:
    done = subprocess.run(args, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kill_when(args: list[str], tmp_path: Path, started) -> None:
    """Start a command in a session of its own and SIGKILL all of it as soon as `started()`."""
    process = subprocess.Popen(
        args,
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + 600
    while not started():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until, "it never started"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob(pattern)) if path.is_file()
    }


def test_a_killed_job_goes_on_to_the_same_file(run, tmp_path, ddim_cli):
    args = ("sample", run, "--n", 62, "--steps", 60, "--eta", 1, "--precision", "fp32")
    args += ("--batch-size", 8, "--format", "npz")
    assert ddim_cli(*args, "--out", "whole").returncode == 0
    shards = tmp_path / "broken" / "shards"
    kill_when(command(*args, "--out", "broken"), tmp_path, lambda: len(list(shards.glob("[0-9]*.npy"))) >= 2)
    made = {path: path.stat().st_mtime_ns for path in shards.glob("[0-9]*.npy")}
    assert 2 <= len(made) < 8
    assert not (tmp_path / "broken" / "images.npz").exists()
    (shards / ".ddim-part-1-0123abcd-0000000-0000008.npy").write_bytes(b"half")  # as a kill while writing leaves it
    # It goes on with the batch size it was begun with: another would round a rare pixel otherwise.
    assert ddim_cli(*args[:-4], "--format", "npz", "--out", "broken").returncode == 0
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())
    whole, broken = files(tmp_path / "whole", "*"), files(tmp_path / "broken", "*")
    assert whole == broken
    with np.load(tmp_path / "whole" / "images.npz") as file:
        pictures = torch.from_numpy(file["arr_0"]).permute(0, 3, 1, 2)
    expected = to_uint8(sample(ddim.prepare(tiny_model(), "fp32"), n=62, steps=60, eta=1.0, batch_size=8))
    assert torch.equal(pictures, expected)
    refused(ddim_cli(*args, "--batch-size", 9, "--out", "broken"), "made with batch_size 8, not 9")


def test_two_processes_make_the_pictures_of_one(run, tmp_path, ddim_cli):
    args = ("sample", run, "--n", 50, "--steps", 5, "--batch-size", 8)
    assert ddim_cli(*args, "--out", "one").returncode == 0
    told = finish(torchrun(*args, "--out", "two"), tmp_path)
    assert told.count("50 images") == 1  # one process speaks
    one = files(tmp_path / "one", "*")
    assert len(one) == 51  # the images and their settings: the sheet lies beside the folder
    assert one == files(tmp_path / "two", "*")


@pytest.mark.slow
def test_an_evaluation_by_two_processes_killed_and_gone_on_with_by_one(run, tmp_path, ddim_cli):
    args = ("evaluate", run, "--steps", 4, 20, "--eta", 0, "hat", "--n", 40, "--batch-size", 5)
    assert ddim_cli(*args, "--out", "whole").returncode == 0
    cells = tmp_path / "broken" / "cells"
    kill_when(torchrun(*args, "--out", "broken"), tmp_path, lambda: len(list(cells.rglob("[0-9]*.npy"))) >= 17)
    assert 17 <= len(list(cells.rglob("[0-9]*.npy"))) < 4 * 8
    assert ddim_cli(*args, "--out", "broken").returncode == 0
    assert files(tmp_path / "whole" / "cells", "*.npy") == files(tmp_path / "broken" / "cells", "*.npy")
    tables = [json.loads((tmp_path / out / "table.json").read_text()) for out in ("whole", "broken")]
    for table in tables:
        assert [(cell["steps"], cell["eta"]) for cell in table["cells"]] == [
            (4, 0.0),
            (4, "hat"),
            (20, 0.0),
            (20, "hat"),
        ]
        assert all(cell.pop("seconds_an_image") > 0 for cell in table["cells"])
    assert tables[0] == tables[1]


def work(model, whole: job.Job) -> None:
    for indices in whole.share(model, Alone(None)):
        whole.write(indices, last(whole.walk(model, indices)).x)


@pytest.mark.parametrize("kind", [Shards, Pngs])
def test_images_are_read_back_and_damaged_ones_made_again(tmp_path, kind):
    model, files = tiny_model(), kind(tmp_path)
    whole = job.Job(files, 11, 4, [1000, 500, 0], seed=3)
    assert whole.share(model, Alone(None)) == whole.batches()
    work(model, whole)
    assert whole.share(model, Alone(None)) == []
    expected = to_uint8(sample(model, n=11, steps=2, seed=3, batch_size=4, solver="ddim"))
    assert torch.equal(whole.images(), expected)
    assert torch.equal(whole.images(5), expected[:5])
    cut, other = sorted(tmp_path.iterdir())[:2]
    cut.write_bytes(cut.read_bytes()[:-20])  # as a full disk or a crash of the system leaves it
    if kind is Shards:
        other.write_bytes(b"junk")
    assert whole.share(model, Alone(None)) == whole.batches()[: 2 if kind is Shards else 1]
    work(model, whole)
    assert torch.equal(whole.images(), expected)


def test_images_beyond_n_are_mentioned(tmp_path, capsys):
    job.sample_files(tiny_model(), tmp_path / "out", n=5, steps=1)
    (tmp_path / "out" / "notes.png").write_text("no image of ours")
    assert "more than" not in capsys.readouterr().err
    job.sample_files(tiny_model(), tmp_path / "out", n=3, steps=1)
    assert "out: holds 2 images more than 3, made before with the same settings" in capsys.readouterr().err


def test_seconds_are_read_back(tmp_path):
    log = tmp_path / "seconds.jsonl"
    timings.note(log, range(0, 4), 2.0)
    timings.note(log, range(4, 8), 6.0)
    with open(log, "a") as file:
        file.write('null\n{"seconds": 1}\n["junk"]\n{"images": [8, ')  # the last one cut short by a kill
    assert timings.seconds_an_image([log]) == 1.0
    assert timings.seconds_an_image([]) is None
