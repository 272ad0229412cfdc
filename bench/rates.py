"""How much arithmetic a network takes, what the machine does of it a second at best, and a contest's table of both."""

import time
from argparse import Namespace
from statistics import median

from contest import Contender, markdown, ratio


def flop(p) -> int:
    """Floating-point operations of one evaluation for one image, a multiplication and an addition being two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from ddim.networks.unet import UNet
    from ddim.training.new_model import unet_config

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        UNet(unet_config(p))(torch.empty(1, p.data.channels, p.data.size, p.data.size), torch.zeros(1))
    return counter.get_total_flops()


def best_rate(dtype: str, device: str, threads: int) -> float:
    """FLOP/s of the best of some large matrix products and 3×3 convolutions, alone.

    Both, because some libraries' matrix product leaves half of some processors unused, where convolutions do not.
    """
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    cuda, kind = device.startswith("cuda"), {"device": device, "dtype": getattr(torch, dtype)}
    n, count = (8192, 256) if cuda else (2048, 8)
    a, b = torch.randn(2, n, n, **kind)
    x = torch.randn(count, 256, 32, 32, **kind).contiguous(memory_format=torch.channels_last)
    w = torch.randn(256, 256, 3, 3, **kind).contiguous(memory_format=torch.channels_last)
    tasks = [(lambda: a @ b, 2 * n**3), (lambda: F.conv2d(x, w, padding=1), 2 * 9 * 256 * x.numel())]
    rates = []
    for task, work in tasks * 10:
        start = time.perf_counter()
        task()
        if cuda:
            torch.cuda.synchronize()
        rates.append(work / (time.perf_counter() - start))
    return max(rates)


def table(contenders: list[Contender], o: Namespace, work: float) -> str:
    """What came of a contest: `work` is the FLOP of a turn."""
    peaks = {dtype: best_rate(dtype, o.device, o.threads) for dtype in sorted({c.dtype for c in contenders})}
    header = ("contender", "seconds", "times as fast", "peak memory", "of the best", "output apart")
    rows = []
    for c in contenders:
        seconds = median(c.seconds)
        share = work / seconds / peaks[c.dtype]
        times, apart = ratio(contenders[0], c), "" if c.apart is None else f"{c.apart:.1g}"
        rows.append((c.name, f"{seconds:.2f}", f"{times:.2f}", f"{c.peak / 2**20:.0f} MiB", f"{share:.0%}", apart))
    told = ", ".join(f"{dtype} {peak / 1e9:.0f} GFLOP/s" for dtype, peak in peaks.items())
    return f"{markdown(header, rows)}\n\n{o.threads} threads on {o.device}; its best, in large products: {told}"
