"""Each case in a fork of one process that has imported everything: what it says, how it ends, what memory it takes.

A case that hangs is ended by the system's alarm, also where it hangs in C; one that dies takes nothing with it.
"""

import contextlib
import gc
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from fuzz.damage import seed_of

SECONDS, MEMORY = 60, 4 * 2**30  # that a case may take
FINE, REFUSED = "fine", "refused in one line"
BAD = ("traceback", "refused in other than one line", "hang", "signal", "over memory", "silent NaN", "not made")
OUTCOMES = (FINE, REFUSED, *BAD)

Arguments = list[str]
Make = Callable[[random.Random, Path], list[Arguments]]  # makes a case in the current folder, from templates


@dataclass(frozen=True)
class Kind:
    """Cases of one kind: `count` of them; `make` says which commands are run one after another, till one refuses."""

    name: str
    count: int
    make: Make
    prepare: Callable[[Path], None] = lambda templates: None
    run: Callable[..., tuple[int, str, str]] | None = None  # of a command: exit status, output, errors


@dataclass(frozen=True)
class Ended:
    """How a case ended."""

    kind: str
    number: int
    outcome: str
    commands: list[Arguments]
    said: str = ""
    seconds: float = 0.0
    mebibytes: int = 0


def outcome_of(status: int, out: str, err: str) -> str:
    """What a command came to, by its exit status and what it printed."""
    if "Traceback (most recent call last)" in out + err:
        return "traceback"
    if "not enough memory" in err:
        return "over memory"
    lines = [line for line in err.splitlines() if line.strip()]
    if status == 0:
        return FINE
    if status != 2 or not lines or not all(line.startswith("ddim: ") for line in lines):
        return "refused in other than one line"
    # What a library warned of before is a line of its own; the refusal is the last one.
    return REFUSED


def blank(folder: Path, err: str) -> str | None:
    """A picture that a command made without a word and that holds nothing: its name."""
    import numpy as np

    if "colour all over" in err:  # it was said
        return None
    for path in sorted(folder.glob("made*/images.npz")):
        with np.load(path) as file:
            for i, image in enumerate(file["arr_0"]):
                if image.min() == image.max():
                    return f"{path.parent.name}, image {i}"
    for path in sorted(folder.glob("*.safetensors")):
        from safetensors.numpy import load_file

        with contextlib.suppress(Exception):  # a damaged one of the case itself
            if path.name == "latents.safetensors" and not all(np.isfinite(v).all() for v in load_file(path).values()):
                return path.name
    return None


def work(kind: Kind, number: int, templates: Path, folder: Path) -> None:
    """The fork: make the case, run its commands, write down how they ended."""
    os.setpgid(0, 0)
    os.chdir(folder)
    os.environ |= {"DDIM_CACHE": str(folder / ".cache"), "HF_HOME": str(folder / ".hf"), "TMPDIR": str(folder)}
    tempfile.tempdir = None
    said = {"commands": [], "outcome": FINE, "said": ""}
    commands = kind.make(random.Random(seed_of(kind.name, number)), templates)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    place = folder.with_suffix(".json")
    for args in commands:
        said["commands"].append(args)
        place.write_text(json.dumps(said))
        signal.alarm(SECONDS)
        status, out, err = run(args, folder) if kind.run is None else kind.run(*args)
        signal.alarm(0)
        outcome = outcome_of(status, out, err)
        if outcome == FINE and (name := blank(folder, err)):
            outcome, err = "silent NaN", name
        said |= {"outcome": outcome, "said": f"status {status}: {err.strip()[-2000:]}"}
        place.write_text(json.dumps(said))
        if outcome != FINE:
            break


def run(args: Arguments, folder: Path) -> tuple[int, str, str]:
    """Run `ddim …` with its outputs in files, where those of libraries in C go too."""
    from ddim.cli.main import main

    logs = folder.with_suffix(".out"), folder.with_suffix(".err")
    for number, path in enumerate(logs, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    try:
        status = main(args)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    out, err = (path.read_bytes().decode(errors="replace") for path in logs)
    return status, out, err


def start(kind: Kind, number: int, templates: Path, folder: Path) -> int:
    """Fork for a case; returns the number of the process."""
    folder.mkdir(parents=True)
    if pid := os.fork():
        return pid
    status = 70  # where the case could not be made: the suite's own fault
    try:
        work(kind, number, templates, folder)
        status = 0
    except BaseException:
        folder.with_suffix(".json").write_text(json.dumps({"said": traceback.format_exc(), "commands": []}))
    finally:
        os._exit(status)
    raise AssertionError


def finish(kind: Kind, number: int, folder: Path, waited: int, usage, seconds: float) -> Ended:
    """How a case ended, by what it wrote down and how its process ended."""
    code, place = os.waitstatus_to_exitcode(waited), folder.with_suffix(".json")
    found = json.loads(place.read_text()) if place.exists() else {"said": "nothing written", "commands": []}
    if code > 0:
        found["outcome"] = "not made"  # by a fault of the suite
    elif code < 0:
        found["outcome"] = "hang" if code == -signal.SIGALRM else "signal"
        err = folder.with_suffix(".err")
        found["said"] = f"signal {-code} {err.read_bytes().decode(errors='replace')[-500:] if err.exists() else ''}"
    elif usage.ru_maxrss * 1024 > MEMORY and found["outcome"] in (FINE, REFUSED):
        found["outcome"] = "over memory"
    for path in folder.parent.glob(f"{folder.name}*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    return Ended(kind.name, number, **found, seconds=seconds, mebibytes=usage.ru_maxrss >> 10)


def cases(kind: Kind, numbers: list[int], jobs: int) -> Iterator[Ended]:
    """Run cases, `jobs` at a time."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # every file of ours waits for its disk
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory, ignore_cleanup_errors=True) as name:
        place, waiting, running = Path(name).resolve(), list(numbers), {}
        (place / "templates").mkdir()
        kind.prepare(place / "templates")
        gc.collect(), gc.freeze()  # so that the forks share their memory
        while waiting or running:
            while waiting and len(running) < jobs:
                number = waiting.pop(0)
                folder = place / f"case-{number}"
                running[start(kind, number, place / "templates", folder)] = number, folder, time.monotonic()
            pid, waited, usage = os.wait4(-1, 0)
            if pid not in running:
                continue
            number, folder, begun = running.pop(pid)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # what it may have left running
            yield finish(kind, number, folder, waited, usage, time.monotonic() - begun)


def table(ended: list[Ended]) -> str:
    """The counts by kind and outcome."""
    kinds = list(dict.fromkeys(case.kind for case in ended))
    counts = Counter((case.kind, case.outcome) for case in ended)
    rows = [["", "cases", *OUTCOMES]]
    for kind in kinds:
        row = [counts[kind, outcome] for outcome in OUTCOMES]
        rows.append([kind, *map(str, (sum(row), *row))])
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])


def as_json(case: Ended) -> str:
    return json.dumps(asdict(case))
