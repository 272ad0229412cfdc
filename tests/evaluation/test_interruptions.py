"""An evaluation that is killed, ended, out of disk space, or damaged continues to the same bytes."""

import contextlib
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.command_line import in_process, refused
from support.models import tiny_network

import ddim
from ddim import images as data
from ddim import plots
from ddim.diffusion import schedule
from ddim.diffusion.model import Model
from ddim.evaluation import fid_grid
from ddim.jobs.image_files import Shards

ARGS = ("evaluate", "model", "--reference", "real.npz", "--n", 7, "--batch-size", 4, "--steps", 2, "--eta", 0)
RENAMED = 8  # files that this writes by renaming: the settings, two shards, distances, two tables and two figures


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a model, a cache that is filled, and a whole evaluation."""
    home = tmp_path_factory.mktemp("evaluations")
    model = Model(tiny_network(), schedule.linear(20, 5e-3, 0.9), (1, 8, 8))
    ddim.save(model, home / "model")
    real = data.load(data.find("digits", 8, 1))[:80]
    np.savez(home / "real.npz", arr_0=real.permute(0, 2, 3, 1).numpy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDIM_CACHE", str(home / "cache"))
        assert in_process(home, *ARGS, "--out", "whole").returncode == 0
        yield home


def in_a_child(home: Path, spoil: Callable[[], None], *args: object) -> tuple[int, str]:
    """Run a command in a forked process after `spoil()`: its status (minus the signal's number), its messages."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            spoil()
            done = in_process(home, *args)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            (home / "said").write_text(done.stderr)
            os._exit(done.returncode)
        os._exit(99)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, (home / "said").read_text() if status > 0 else ""


def kill_at(k: int, after: bool) -> Callable[[], None]:
    """SIGKILL at the k-th renaming, before or after it."""

    def spoil() -> None:
        rename, left = os.replace, iter(range(k))

        def replacing(part, path) -> None:
            last = next(left, None) == k - 1
            if last and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(part, path)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replacing

    return spoil


def contents(out: Path) -> dict[str, bytes | dict]:
    """All files by their names; tables without the seconds."""
    found: dict[str, bytes | dict] = {}
    for path in sorted(out.rglob("*")):
        if path.name == "table.json":
            table = json.loads(path.read_text())
            found["table.json"] = {**table, "cells": [{**c, "seconds_an_image": 0} for c in table["cells"]]}
        elif path.is_file() and path.name not in ("grid.png", "table.md") and path.suffix != ".jsonl":
            found[str(path.relative_to(out))] = path.read_bytes()
    return found


@pytest.mark.parametrize("after", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["before", "after"])
@pytest.mark.parametrize("k", range(1, RENAMED + 1))
def test_a_kill_at_any_renaming_is_continued_to_the_same_bytes(home, k, after):
    out = f"killed-{k}-{after}"
    status, _ = in_a_child(home, kill_at(k, after), *ARGS, "--out", out)
    assert status == -signal.SIGKILL
    assert len(list((home / out).rglob(".ddim-part-*"))) == (not after)
    own = home / out / ".notes.part2"  # close to a temporary name of ours, but not one
    if (home / out / "evaluate.json").exists():  # a folder of nothing but strangers' files is refused
        own.write_text("the user's own")
    done = in_process(home, *ARGS, "--out", out)
    assert done.returncode == 0, done.stderr
    assert k == 1 or own.read_text() == "the user's own"
    own.unlink(missing_ok=True)
    assert contents(home / out) == contents(home / "whole")
    assert (home / out / "table.md").stat().st_size > 0
    assert (home / out / "grid.png").stat().st_size > 0


def test_the_kills_reach_every_renaming(home):
    status, said = in_a_child(home, kill_at(RENAMED + 1, False), *ARGS, "--out", "unhurt")
    assert status == 0, said


def test_sigterm_gets_a_line_and_the_same_command_continues(home, monkeypatch):
    write = Shards.write

    def interrupted(self, indices, images) -> None:
        write(self, indices, images)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Shards, "write", interrupted)
        done = in_process(home, *ARGS, "--out", "ended")
    assert done.returncode == 143
    said = [line for line in done.stderr.splitlines() if line.startswith("ddim: ")]
    assert said[-1] == "ddim: ended by SIGTERM"
    assert "Traceback" not in done.stderr
    assert len(list((home / "ended").rglob("*.npy"))) == 1
    assert in_process(home, *ARGS, "--out", "ended").returncode == 0
    assert contents(home / "ended") == contents(home / "whole")


@pytest.mark.parametrize("room", [10, 200, 1500, 5000])
def test_a_full_disk_is_told_in_a_line_and_nothing_is_half_written(home, room):
    """The system refuses to let a file grow beyond `room` bytes: the settings, a shard, a table or a figure."""
    out = f"full-{room}"

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))

    status, said = in_a_child(home, fill, *ARGS, "--out", out)
    assert status == 2, said
    (line,) = [line for line in said.splitlines() if "no room to write it" in line]
    assert line.startswith("ddim: ")
    assert "Traceback" not in said
    assert not list((home / out).rglob(".ddim-part-*"))
    whole = contents(home / "whole")
    assert all(whole[name] == kept for name, kept in contents(home / out).items())
    done = in_process(home, *ARGS, "--out", out)
    assert done.returncode == 0, done.stderr
    assert contents(home / out) == contents(home / "whole")


@pytest.mark.parametrize("damage", [b"", b"junk", b"{}"], ids=["empty", "junk", "object"])
def test_damaged_files_are_made_again(home, damage):
    out = home / f"damaged-{len(damage)}"
    shutil.copytree(home / "whole", out)
    spoilt = [*out.rglob("distances-*.json"), *out.rglob("seconds-*.jsonl"), out / "table.json", out / "grid.png"]
    spoilt.append(next(iter(sorted(out.rglob("*.npy")))))
    for path in spoilt:
        path.write_bytes(damage)
    done = in_process(home, *ARGS, "--out", out)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(home / "whole")
    assert plots.read(out / "grid.png").shape[2] > 300


def test_lost_seconds_leave_the_figure_without_them(home):
    shutil.copytree(home / "whole", home / "timeless")
    next((home / "timeless").rglob("seconds-*.jsonl")).write_bytes(b"junk")
    done = in_process(home, *ARGS, "--out", "timeless")
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads((home / "timeless/table.json").read_text())["cells"]
    assert cell["seconds_an_image"] is None
    assert plots.read(home / "timeless/grid.png").shape[2] > 300


def test_a_damaged_cache_is_measured_again(home, tmp_path, monkeypatch):
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    for k in range(2):
        done = in_process(home, *ARGS, "--out", f"cached-{k}")
        assert done.returncode == 0, done.stderr
        (kept,) = (tmp_path / "cache").glob("statistics-*.safetensors")
        assert contents(home / f"cached-{k}") == contents(home / "whole")
        kept.write_bytes(kept.read_bytes()[:-100])


def test_two_evaluations_in_one_folder(home, monkeypatch):
    """The second is refused while the first is at work; nothing is made or counted twice."""
    record, second = fid_grid.record, []

    def meanwhile(*args):
        second.append(in_a_child(home, lambda: None, *ARGS, "--out", "shared"))
        return record(*args)

    with monkeypatch.context() as patch:
        patch.setattr(fid_grid, "record", meanwhile)
        done = in_process(home, *ARGS, "--out", "shared")
    assert done.returncode == 0, done.stderr
    ((status, said),) = second
    assert status == 2
    assert said.splitlines()[-1].endswith(
        "shared: another process works in it; wait for its end, or name another folder"
    )
    assert contents(home / "shared") == contents(home / "whole")
    log = next((home / "shared").rglob("seconds-0.jsonl")).read_text().splitlines()
    assert [json.loads(line)["images"] for line in log] == [[0, 4], [4, 7]]


def test_a_folder_of_other_files_or_settings_is_refused(home):
    (home / "other").mkdir()
    (home / "other" / "mine.txt").write_text("x")
    refused_last(in_process(home, *ARGS, "--out", "other"), "holds other files; name an empty or a new folder")
    refused_last(in_process(home, *ARGS, "--seed", 1, "--out", "whole"), "made with seed 0, not 1; name another folder")
    refused(in_process(home, *ARGS, "--solver", "implicit"), "solver implicit is for encoding")
    refused(in_process(home, *ARGS[:-1], 1, "--solver", "heun"), "solver heun takes no noise")
    refused(in_process(home, *ARGS, "--solver", "sde-dpm++2m"), "solver sde-dpm++2m has eta 1: pass eta 1 alone")


def refused_last(done, words: str) -> None:
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
