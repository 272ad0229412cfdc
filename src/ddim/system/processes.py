"""The processes of one job: where one of them is lost, the others end soon, and one says how to go on.

A process that waits for a dead one may wait for very long, or end with an error that helps nobody.
Launchers send SIGTERM to the others of a machine when one has died there, but also when all are to stop. A roll call
tells these apart: who is alive answers in the launcher's store, by a thread, for the main one may be waiting.
"""

import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from ddim.system.messages import warn

ANSWER = 3  # seconds that a process has to answer: it looks once a second
ENDING = (signal.SIGINT, signal.SIGTERM)
UNWIND = 10  # seconds that the main thread has to come back from what it waits for: launchers kill after 30
parts = itertools.count()  # of the job that are watched: every process comes to the same ones in the same order


def number(variable: str, default: int) -> int:
    """What the launcher has put in the environment."""
    return int(os.environ.get(variable, default))


class Alone:
    """The one process of a job that no launcher started."""

    process_index, num_processes, is_main_process = 0, 1, True

    def __init__(self, device: str | None):
        self.device = device

    def wait_for_everyone(self) -> None:
        pass


def processes(device: str | None = None):
    """The processes that `torchrun` or `accelerate launch` started, on a GPU each where there are any; or one alone."""
    if number("WORLD_SIZE", 1) == 1:
        return Alone(device)
    import torch
    from accelerate import PartialState

    cpu = device == "cpu" or not torch.cuda.is_available()
    # A slow machine may be waited for as long as it takes.
    return PartialState(cpu=cpu, timeout=timedelta(days=30))


def disconnect() -> None:
    """Close the connections between the processes of a job, where there are any. Left to the exit of the interpreter,
    their threads may still run while they are taken down, which aborts the process after all its work.
    """
    distributed = sys.modules.get("torch.distributed")
    if number("WORLD_SIZE", 1) > 1 and distributed is not None and distributed.is_initialized():
        with suppress(RuntimeError):  # the others have gone already
            distributed.destroy_process_group()


@contextmanager
def watched(lost: Callable[[], str]) -> Iterator[None]:
    """Where another process of the job is lost meanwhile, this one ends with status 1 and one of them prints a line.

    lost: where it was lost and how to continue, the end of that line. Without effect on a process that is alone.
    """
    if number("WORLD_SIZE", 1) == 1:
        yield
        return
    roll = Roll(lost)
    before = {code: signal.signal(code, roll.note) for code in ENDING}
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=roll.watch, args=(reader,), daemon=True)
    thread.start()
    try:
        yield
    except BaseException as error:
        roll.ending = True
        cut_off, missing = severed(error), []
        if cut_off or isinstance(error, KeyboardInterrupt):
            missing = roll.missing()
        if cut_off or missing:
            roll.report(missing)
            os._exit(1)  # what is left of the connections could keep an orderly exit waiting
        roll.first()  # the error has its own line: the others need none
        raise
    finally:
        roll.left.set()
        roll.answer()
        signal.set_wakeup_fd(-1)
        writer.close()
        thread.join()
        for code, handler in before.items():
            signal.signal(code, handler)


def severed(error: BaseException) -> bool:
    """Whether an error is that of a collective operation whose other end is gone: gloo has no type of its own."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


class Roll:
    """Who of the processes is there, by their marks in the launcher's store."""

    def __init__(self, lost: Callable[[], str]):
        from torch.distributed import TCPStore

        self.lost, self.rank, self.size = lost, number("RANK", 0), number("WORLD_SIZE", 1)
        self.name = f"ddim/{number('TORCHELASTIC_RESTART_COUNT', 0)}/{next(parts)}"
        self.left, self.lock, self.ending = threading.Event(), threading.Lock(), False
        host, port = os.environ["MASTER_ADDR"], number("MASTER_PORT", 29500)
        self.store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=ANSWER))

    def answer(self) -> None:
        self.ask(None, self.store.set, f"{self.name}/{self.rank}", "")

    def missing(self) -> list[int]:
        """Call the roll: the ranks that do not answer."""
        self.ask(None, self.store.set, f"{self.name}/call", "")
        self.answer()
        until = time.monotonic() + ANSWER
        while silent := [rank for rank in range(self.size) if not self.has(rank)]:
            if time.monotonic() > until:
                return silent
            time.sleep(0.05)
        return []

    def has(self, mark: int | str) -> bool:
        return self.ask(True, self.store.check, [f"{self.name}/{mark}"])

    def first(self) -> bool:
        """Whether no process has said anything yet; after this, one has."""
        return self.ask(1, self.store.add, f"{self.name}/said", 1) == 1

    def ask(self, otherwise, of: Callable, *args):
        """What the store answers; `otherwise`, where it was lost with the process that held it."""
        try:
            return of(*args)
        except RuntimeError:
            return otherwise

    def report(self, missing: list[int]) -> None:
        who = f"the process of rank {missing[0]}, of {self.size}," if missing else f"one of the {self.size} processes"
        with self.lock:  # the other thread may end the process right after
            if self.first():
                warn(f"{who} was lost{self.lost()}")

    def note(self, code: int, frame) -> None:
        if not self.ending:
            raise KeyboardInterrupt

    def watch(self, signals: socket.socket) -> None:
        """The thread: answer a call; on a signal to end, call the roll, and end where a process is missing."""
        signals.settimeout(1)
        while not self.left.is_set():
            with suppress(TimeoutError):
                code = signals.recv(1)  # empty when the other end is closed
                if code and code[0] in ENDING and (missing := self.missing()):
                    self.report(missing)
                    if not self.left.wait(UNWIND):
                        os._exit(1)
            if self.has("call"):
                self.answer()


@contextmanager
def interruptible(alone: bool) -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM are acknowledged, and noted in the list that this yields, so that no step is left half-taken.

    The second one interrupts a process that is alone. A launcher may well repeat what the terminal has sent.
    """
    seen: list[int] = []

    def note(code: int, frame) -> None:
        if seen and alone:
            raise KeyboardInterrupt
        if not seen and number("RANK", 0) == 0:
            warn("stopping after this step")
        seen.append(code)

    before = {code: signal.signal(code, note) for code in ENDING}
    try:
        yield seen
    finally:
        for code, handler in before.items():
            signal.signal(code, handler)


def without_signals(*_: object) -> None:
    """Leave Ctrl-C and SIGTERM to the parent: a terminal or a batch system sends them to all processes of a job.

    For the start of a helper process, which ends when its parent says so or has ended.
    """
    for code in ENDING:
        signal.signal(code, signal.SIG_IGN)
