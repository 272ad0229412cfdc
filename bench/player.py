"""The contender's side of a contest (see contest.py): get ready in a process of its own, then play whenever told to."""

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Player:
    """What a contender has ready."""

    turn: Callable[[], object]  # what is timed; if it returns a dict, its numbers are kept
    output: Callable[[], Sequence[float]] | None = None  # the network's answer to a fixed question
    device: str = "cpu"
    repeat: int = 1  # how often a turn is taken at a time


def play(prepare: Callable[[], Player], ours: bool) -> None:
    """Get ready, warm up, and say so; then take a turn for every line of stdin. An answer is a line of JSON."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the contest's to tell about
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    if ours:  # as our command line does, before torch is loaded; the others run as shipped
        from ddim.system.machine import keep_memory, wait_politely

        keep_memory()
        wait_politely()
    player = prepare()
    output = None if player.output is None else [float(x) for x in player.output()]
    player.turn()  # warms up
    torch = sys.modules.get("torch")
    ready = {"output": output, "threads": torch.get_num_threads() if torch else None}
    print(json.dumps(ready | {"peak": peak(player.device)}), file=answers, flush=True)
    wait = torch.cuda.synchronize if player.device.startswith("cuda") else lambda: None
    for _ in sys.stdin:
        wait()
        start = time.perf_counter()
        for _ in range(player.repeat):
            told = player.turn()
        wait()
        seconds = time.perf_counter() - start
        answer = {"seconds": seconds, "told": told if isinstance(told, dict) else {}, "peak": peak(player.device)}
        print(json.dumps(answer), file=answers, flush=True)


def peak(device: str) -> int:
    """The most memory that this process has held, in bytes: on its GPU, or else of the host."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells of a process on Linux begins with what its parent held
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
