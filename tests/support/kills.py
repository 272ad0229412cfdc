"""Kills at chosen moments: a process that has imported everything once, and forks for every run of a command.

A file that is written by renaming has three moments: its temporary file is written by half, is whole, is renamed.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

MOMENTS = ("half", "whole", "renamed")


@dataclass(frozen=True)
class Ended:
    """The exit status, negative for a signal; the files that were renamed into place, in order; what was printed."""

    status: int
    written: list[str]
    output: str


class Forks:
    """Runs `ddim …` in forks of one process. A context."""

    def __init__(self, env: dict[str, str], warm: list[str]):
        """warm: a command that is run first, in the process itself, so that the forks find all that it imports."""
        env = env | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, __file__, *warm], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def run(self, where: Path, args: list[str], event: int = -1, moment: str = "") -> Ended:
        """Run a command in the folder `where`, killed at a moment of the renaming of that number, from 0."""
        job = {"where": str(where), "args": [str(arg) for arg in args], "event": event, "moment": moment}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        written = (where / "written.txt").read_text().splitlines()
        return Ended(status, written, (where / "output.txt").read_text())


def serve(warm: list[str]) -> None:
    """Fork for each line of JSON on stdin, and answer with the exit status of the fork."""
    import torch

    from support.command_line import in_process

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as where:
        in_process(Path(where), *warm)
    for line in sys.stdin:
        job = json.loads(line)
        if (pid := os.fork()) == 0:
            work(**job)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def work(where: str, args: list[str], event: int, moment: str) -> None:
    """The fork: run the command, and end by SIGKILL at the moment that is asked for."""
    from ddim.cli.main import main

    os.chdir(where)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    written = os.open("written.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    fsync, rename, count = os.fsync, os.replace, 0

    def at(reached: str) -> bool:
        return (count, reached) == (event, moment)

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def flush(file: int) -> None:
        if at("half"):
            os.ftruncate(file, os.fstat(file).st_size // 2)
            die()
        fsync(file)

    def replace(part: Path, path: Path) -> None:
        nonlocal count
        if at("whole"):
            die()
        rename(part, path)
        os.write(written, f"{path}\n".encode())
        if at("renamed"):
            die()
        count += 1

    os.fsync, os.replace = flush, replace
    status = 70
    try:
        status = main(args)
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1:])
