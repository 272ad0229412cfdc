"""Sampling killed while it writes: at every file that is written by renaming, in each state that a kill can leave."""

import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.command_line import command, environment, in_process, refused
from support.kills import MOMENTS, Forks
from support.models import tiny_model

import ddim
from ddim.jobs import sample_files
from ddim.plots import sheets

SMALL = ["--n", "5", "--steps", "2", "--batch-size", "2", "--precision", "fp32", "--device", "cpu", "--out", "out"]
OURS = ["sample.json", "00000.png", "00001.png", "00002.png", "00003.png", "00004.png", "out-sheet.png"]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    ddim.save(tiny_model(), folder / "model")
    return folder


@pytest.fixture(scope="module")
def forks(home) -> Iterator[Forks]:
    with Forks(environment(home), ["sample", str(home / "model"), *SMALL]) as forks:
        yield forks


def contents(folder: Path) -> dict[str, bytes]:
    own = {"written.txt", "output.txt"}  # of the forks
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if name not in own}


def kills(forks: Forks, args: list[str], tmp_path: Path) -> list[str]:
    """Kill a command at each file that it renames, in each moment; after each kill, let it finish, and compare all
    bytes with those of an unbroken run. Returns the names of the files.
    """
    (tmp_path / "whole").mkdir()
    whole = forks.run(tmp_path / "whole", args)
    assert whole.status == 0, whole.output
    expected = contents(tmp_path / "whole")
    for event in range(len(whole.written)):
        for moment in MOMENTS:
            where = tmp_path / f"{event}-{moment}"
            where.mkdir()
            assert forks.run(where, args, event, moment).status == -signal.SIGKILL
            assert contents(where) != expected or (moment == "renamed" and event == len(whole.written) - 1)
            after = forks.run(where, args)
            assert after.status == 0, (event, moment, after.output)
            assert contents(where) == expected, (event, moment)
    return [Path(name).name for name in whole.written]


def test_a_kill_at_any_file_of_a_folder_of_images(forks, home, tmp_path):
    args = ["sample", str(home / "model"), *SMALL, "--eta", "1"]
    assert kills(forks, args, tmp_path) == OURS  # 21 kills
    made = contents(tmp_path / "whole")
    assert set(made) == {f"out/{name}" for name in OURS[:-1]} | {"out-sheet.png"}  # a folder of images holds images


@pytest.mark.slow
def test_a_kill_at_any_file_of_an_npz(forks, home, tmp_path):
    args = ["sample", str(home / "model"), *SMALL, "--format", "npz", "--solver", "heun"]
    shards = ["0000000-0000002.npy", "0000002-0000004.npy", "0000004-0000005.npy"]
    assert kills(forks, args, tmp_path) == ["sample.json", *shards, "images.npz", "out-sheet.png"]  # 18 kills


@pytest.mark.slow
def test_a_kill_of_encoding_and_decoding_leaves_no_half_file(forks, home, tmp_path):
    """A file is whole or absent, and one that was there stays as it was."""
    image = torch.linspace(-1, 1, 64).reshape(1, 8, 8)
    for k in range(3):
        sheets.save(sheets.to_pil(image.roll(k, 1)), tmp_path / f"{k}.png")
    images = [str(tmp_path / f"{k}.png") for k in range(3)]
    encode = ["encode", str(home / "model"), *images, "--steps", "4", "--out", "z.safetensors"]
    decode = ["decode", str(home / "model"), "z.safetensors", "--out", "back"]
    latents = tmp_path / "z.safetensors"
    assert forks.run(tmp_path, encode, 0, "half").status == -signal.SIGKILL
    assert not latents.exists()
    assert len(list(tmp_path.glob(".ddim-part-*"))) == 1
    assert forks.run(tmp_path, encode).status == 0
    assert not list(tmp_path.glob(".ddim-part-*"))  # what the killed process left
    made = latents.read_bytes()
    for moment in ("half", "whole"):
        assert forks.run(tmp_path, [*encode, "--solver", "exact"], 0, moment).status == -signal.SIGKILL
        assert latents.read_bytes() == made
    decode += ["--batch-size", "1"]
    assert forks.run(tmp_path, decode, 3, "half").status == -signal.SIGKILL
    assert sorted(path.name for path in (tmp_path / "back").glob("[0-9]*")) == ["00000.png", "00001.png"]
    assert forks.run(tmp_path, decode).written == ["back/decode.json", "back/00002.png", "back-sheet.png"]
    left = {path.name for path in (tmp_path / "back").iterdir()}
    assert left == {"00000.png", "00001.png", "00002.png", "decode.json"}


def test_only_own_leftovers_are_cleaned(forks, home, tmp_path):
    """What users keep in the folder of a job stays, hidden or not, in subfolders too."""
    args = ["sample", str(home / "model"), *SMALL]
    assert forks.run(tmp_path, args, 3, "whole").status == -signal.SIGKILL
    out = tmp_path / "out"
    (left,) = out.glob(".ddim-part-*")
    theirs = [out / ".DS_Store", out / ".notes.part", out / ".x.12.part.png", out / "mine/.a.part2", out / "b.txt"]
    theirs += [out / ".ddim-part-notes", tmp_path / ".ddim-part-1-0123abcd-other-out-sheet.png"]
    stale = tmp_path / ".ddim-part-1-0123abcd-out-sheet.png"
    for path in (*theirs, stale):
        path.parent.mkdir(exist_ok=True)
        path.write_text("theirs")
    done = forks.run(tmp_path, args)
    assert done.status == 0, done.output
    assert [path.read_text() for path in theirs] == ["theirs"] * len(theirs)
    assert not left.exists()
    assert not stale.exists()


def test_a_folder_is_held_and_sigterm_gets_its_line(home, tmp_path):
    """One process samples; a second one is refused; then comes SIGTERM; then the work is continued."""
    args = (
        "sample",
        home / "model",
        "--n",
        300,
        "--steps",
        50,
        "--batch-size",
        2,
        "--precision",
        "fp32",
        "--out",
        "out",
    )
    process = subprocess.Popen(
        command(*args), cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, text=True
    )
    out, until = tmp_path / "out", time.monotonic() + 250
    while not (out / "00001.png").exists():
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < until, "it never started"
        time.sleep(0.01)
    refused(in_process(tmp_path, *args), "out: another process works in it")
    process.send_signal(signal.SIGTERM)
    lines = [line for line in process.communicate()[1].splitlines() if line.startswith("ddim: ")]
    assert (process.returncode, lines) == (143, ["ddim: ended by SIGTERM"])
    assert len(list(out.glob("[0-9]*.png"))) < 300
    model = ddim.prepare(ddim.load(home / "model"), "fp32")
    for folder in (out, tmp_path / "whole"):
        sample_files(model, folder, n=8, steps=50, batch_size=2)
    made = contents(out)
    assert {name: made.get(name) for name in contents(tmp_path / "whole")} == contents(tmp_path / "whole")


def test_no_room_for_an_npz(home, tmp_path):
    """The shards fit and images.npz does not: one line, nothing half-written; with room, it is continued."""
    args = ("sample", home / "model", "--n", 40, "--steps", 1, "--batch-size", 30, "--format", "npz", "--out", "out")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2300, 2300))  # bytes a file; the shards have 2048 and 768

    how = {"cwd": tmp_path, "env": environment(tmp_path), "capture_output": True, "text": True, "preexec_fn": limit}
    full = subprocess.run(command(*args), **how)
    assert full.returncode == 2, full.stderr
    (line,) = [line for line in full.stderr.splitlines() if line.startswith("ddim: ")]
    assert line.startswith("ddim: out/images.npz: no room to write it")
    assert "Traceback" not in full.stderr
    shards = ["shards/0000000-0000030.npy", "shards/0000030-0000040.npy"]
    out = tmp_path / "out"
    assert set(contents(out)) == {"sample.json", *shards}
    made = [(out / name).stat().st_mtime_ns for name in shards]
    again = in_process(tmp_path, *args)
    assert again.returncode == 0, again.stderr
    assert [(out / name).stat().st_mtime_ns for name in shards] == made
    with np.load(out / "images.npz") as file:
        assert np.array_equal(file["arr_0"], np.concatenate([np.load(out / name) for name in shards]))
