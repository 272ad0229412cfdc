"""Clocks that are given."""

import os
import signal


class Ticking:
    """A clock by which each look takes `tick` seconds, and every `each`-th one `burst` more, as on a busy machine. At
    `until` the process gets a Ctrl-C."""

    def __init__(self, tick: float = 0.05, each: int = 10**9, burst: float = 0.0, until: float | None = None):
        self.now, self.tick, self.each, self.burst, self.until, self.looks = 0.0, tick, each, burst, until, 0

    def __call__(self) -> float:
        self.looks += 1
        self.now += self.tick + (self.burst if self.looks % self.each == 0 else 0)
        if self.until is not None and self.now > self.until:
            self.until = None
            os.kill(os.getpid(), signal.SIGINT)
        return self.now
