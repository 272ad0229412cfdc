"""The networks of the contests: one set of random weights for all, and what a machine could make of them at best."""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace

from contest import Contender, markdown, ratio


def options(parser: ArgumentParser) -> None:
    """What the contests on the paper's CIFAR-10 network have in common."""
    parser.add_argument("--official", type=Path, help="a checkout of the official code")
    parser.add_argument("--ch", type=int, default=128, help="width of the network; 128 (default) is the paper's")
    parser.add_argument("--size", type=int, default=32, help="height and width of a picture (32)")


def preset(o: Namespace, name: str = "cifar10"):
    """The settings of a preset's network without dropout; of another width or size where `o` says so."""
    from ddim.presets import PRESETS

    changes = {field: value for field in ("ch", "size") if (value := getattr(o, field, None))}
    return replace(PRESETS[name], dropout=0.0, **changes)


def build(p):
    """A model whose every weight is random: an untrained network predicts 0, which some arithmetic likes."""
    import torch

    from ddim.train import build

    model = build(p)
    torch.manual_seed(0)
    for parameter in model.network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    model.network.eval().requires_grad_(False)
    return model


def in_precision(model, dtype: str):
    """The model with weights of another kind of float."""
    import torch

    model.network.to(getattr(torch, dtype))
    return model


def share(o: Namespace) -> Callable[[Path], None]:
    """Writes the weights where every contender finds them: as a model folder, and as the official code's."""

    def write(folder: Path) -> None:
        from ddim import checkpoint, official

        model = build(preset(o))
        checkpoint.save(model, folder)
        official.save(model, folder)

    return write


def official(o: Namespace):
    """The official network with the weights, its configuration, and β (T,): as its runner makes them."""
    import torch
    import yaml

    sys.path.insert(0, str(o.official))
    from models.diffusion import Model

    told = yaml.safe_load((o.folder / "config.yml").read_text())
    config = SimpleNamespace(**{part: SimpleNamespace(**fields) for part, fields in told.items()})
    network = Model(config)
    network.load_state_dict(torch.load(o.folder / "ckpt.pth", weights_only=True)[-1])
    d = config.diffusion
    betas = torch.linspace(d.beta_start, d.beta_end, d.num_diffusion_timesteps, dtype=torch.float64).float()
    return network.to(o.device), config, betas.to(o.device)


def answer(network: Callable, o: Namespace, batch: int, dtype: str = "float32") -> list[float]:
    """A network's output for fixed pictures at times of all kinds; `network` is called (x, index).

    A whole batch, since an allocator that has seen another size holds other memory; the first four of its pictures.
    """
    import torch

    x = torch.randn(batch, 3, o.size, o.size, generator=torch.Generator().manual_seed(1))  # (N, 3, H, W)
    index = torch.arange(batch, device=o.device) * 333 % 1000  # 0, 333, 666, 999, 332, …
    with torch.no_grad():
        out = network(x.to(o.device, getattr(torch, dtype)), index)
    return out[:4].float().flatten().tolist()


def flop(p) -> int:
    """Floating-point operations of one evaluation for one picture, a multiplication and an addition being two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from ddim.train import unet_config
    from ddim.unet import UNet

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        UNet(unet_config(p))(torch.empty(1, p.channels, p.size, p.size), torch.zeros(1))
    return counter.get_total_flops()


def best_rate(dtype: str, device: str, threads: int) -> float:
    """FLOP/s of the best of some large matrix products and 3×3 convolutions, alone.

    Both, because some libraries' matrix product leaves half of some processors unused, where convolutions do not.
    """
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    cuda, kind = device.startswith("cuda"), {"device": device, "dtype": getattr(torch, dtype)}
    n, pictures = (8192, 256) if cuda else (2048, 8)
    a, b = torch.randn(2, n, n, **kind)
    x = torch.randn(pictures, 256, 32, 32, **kind).contiguous(memory_format=torch.channels_last)
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
