"""A slice of the suite, and what it calls bad; `make fuzz` runs the whole."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fuzz import harness
from fuzz.harness import BAD, Kind, cases, table

ENDS = {
    "fine": lambda: (0, "done", ""),
    "refused in one line": lambda: (2, "", "ddim: a\n"),
    "traceback": lambda: (1, "", "Traceback (most recent call last):\n"),
    "refused in other than one line": lambda: (2, "", "a\nddim: b\n"),
    "hang": lambda: time.sleep(60),
    "signal": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "over memory": lambda: (2, "", "ddim: not enough memory\n"),
    "silent NaN": lambda: blank(),
}


def blank() -> tuple[int, str, str]:
    import numpy as np

    Path("made").mkdir()
    np.savez("made/images.npz", np.zeros((1, 8, 8, 1), np.uint8))
    return 0, "", ""


def test_each_outcome_is_told(monkeypatch):
    monkeypatch.setattr(harness, "SECONDS", 4)  # of a busy machine
    names = list(ENDS)
    make = lambda rng, templates: [[names[int(Path.cwd().name.rpartition("-")[2])]]]  # noqa: E731
    kind = Kind("known", len(names), make, run=lambda name: ENDS[name]())
    ended = sorted(cases(kind, list(range(len(names))), 2), key=lambda case: case.number)
    assert [case.outcome for case in ended] == names
    (unmade,) = cases(Kind("unmade", 1, lambda rng, templates: 1 / 0), [0], 1)
    assert unmade.outcome == "not made"
    assert table([*ended, unmade]).splitlines()[-1] == "| unmade | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 1 |"
    assert {*names[2:], "not made"} == set(BAD)


def fuzzed(*args: object, timeout: float) -> dict[str, list[int]]:
    """The table of a run: kind -> its counts."""
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-m", "fuzz", *map(str, args)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), *filter(None, sys.path)])}
    done = subprocess.run(command, env=env, cwd=tests, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    return {kind: [int(count) for count in counts] for kind, *counts in rows}


def test_a_slice():
    """26 cases, in some 20 s, most of which are imports."""
    found = fuzzed("checkpoints", "image sets", "arguments", "--every", 140, "--jobs", 1, timeout=280)
    assert [counts[0] for counts in found.values()] == [15, 8, 3]
    assert all(sum(counts[3:]) == 0 for counts in found.values())


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_the_whole():
    found = fuzzed(timeout=3 * 3600)
    assert [counts[0] for counts in found.values()] == [2000, 1000, 400, 46]
    assert all(sum(counts[3:]) == 0 for counts in found.values())
