"""What a process asks of its machine, and what the machine can do.

The settings are the command line's to make, never made on import: a library leaves its host alone.
"""

import contextlib
import ctypes
import os
import re
import sys
from pathlib import Path

from ddim.errors import InputError


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


def return_memory() -> None:
    """Give back, once, the pages that are free now: those of weights that were replaced are too small to use again."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def wait_politely() -> None:
    """Let threads that wait for each other sleep after some microseconds, instead of spinning on.

    On a machine that others use too, spinning keeps the very thread that is waited for from running: up to fifty times
    the time was seen. Read when torch is loaded, so it comes before; what the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "4000")


def fast_products() -> None:
    """Let torch take oneDNN's float32 products instead of MKL's on an AMD CPU, where those run at half its speed.

    torch does so when asked for "medium" precision, which allows bf16 inside: it is taken back where a trial product
    shows that this CPU makes use of that.
    """
    import torch

    if torch.get_float32_matmul_precision() != "highest" or "AuthenticAMD" not in _cpuinfo():
        return
    a = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    exact = a.double() @ a.double().T
    torch.set_float32_matmul_precision("medium")
    if not torch.allclose((a @ a.T).double(), exact, rtol=1e-4, atol=1e-4):
        torch.set_float32_matmul_precision("highest")


def precision_of(asked: str, device: str) -> str:
    """As asked; for "auto" bf16 where a kind of device multiplies it by itself, else fp32."""
    return asked if asked != "auto" else "bf16" if native_bf16(device) else "fp32"


def _cpuinfo() -> str:
    """What Linux says of the CPU; empty elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def native_int8() -> bool:
    """Whether the CPU multiplies bytes by itself."""
    return bool(re.search(r"^flags\b.*\b(avx512_vnni|avx_vnni|amx_int8)\b", _cpuinfo(), re.MULTILINE))


def native_bf16(device: str) -> bool:
    """Whether a kind of device ("cuda", "cpu", …) multiplies bf16 by itself, rather than by way of float32."""
    if device == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = re.search(r"^(flags|Features)\b.*\b(avx512_bf16|amx_bf16|bf16)\b", _cpuinfo(), re.MULTILINE)
    return device == "cpu" and bool(found)


def free_memory(device) -> int:
    """Free memory in bytes of a torch device: of the GPU, else of the host as Linux says; 4 GiB elsewhere."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as file:
            kib = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
        return kib * 1024
    except (OSError, StopIteration):
        return 4 * 2**30


def sent(tensor, device):
    """A tensor on another device: to a GPU by memory that it reads itself, without waiting for what it is doing."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out; torch's allocator on a CPU has no type of its own for it."""
    kind, text = type(error).__name__, str(error)
    return kind in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in text


def widest(device):
    """The widest floating-point type that a torch device has: Apple's GPUs have no float64."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64


def pick_device(device=None):
    """The torch device named, or else a GPU where there is one. Raises InputError where it is not there."""
    import torch

    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if chosen.type == "meta":
            raise ValueError("it holds no numbers")
        return torch.empty(0, device=chosen).device
    except Exception as error:  # an unknown name, a missing driver, a GPU number too many
        reason = str(error).splitlines()[0][:120]
        raise InputError(f"device {device} is not available here ({reason}): name cpu, or another device") from None


def cache_folder() -> Path:
    """Where decoded images and statistics are kept: $DDIM_CACHE, or `ddim` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddim"
    return Path(os.environ.get("DDIM_CACHE") or default)
