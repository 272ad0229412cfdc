"""What a process asks of its machine. Called by the command line, never on import: a library leaves its host alone."""

import ctypes
import sys


def keep_memory() -> None:
    """Let glibc keep what is freed, rather than give each large activation back to the system and fetch it again.

    On a CPU the page faults of that cost up to half of a network's time. Without effect where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
    for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 64 * 2**20)):
        mallopt(option, value)
