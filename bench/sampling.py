"""How fast is sampling, beside diffusers' pipeline and the official code, on the same weights?

The contenders take turns in one process, so that a drift of the machine falls on all of them; what is printed is
the median of the ratios within each turn. The network is the paper's CIFAR-10 U-Net with random weights.

    python bench/sampling.py [--pictures 32] [--steps 20] [--turns 5] [--official FOLDER]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

import ddim
from ddim.presets import PRESETS
from ddim.train import build


def contenders(pictures: int, steps: int, official: str | None) -> dict[str, Callable[[], object]]:
    """Name -> a function that samples once."""
    model = build(PRESETS["cifar10"])
    model.network.eval().requires_grad_(False)
    for parameter in model.network.parameters():  # an untrained network would predict 0, which some arithmetic likes
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    unet = UNet2DModel(**vars(model.network.config)).eval()
    unet.load_state_dict(model.network.state_dict())
    pipeline = DDIMPipeline(unet=unet, scheduler=DDIMScheduler(1000, clip_sample=False))
    pipeline.set_progress_bar_config(disable=True)
    half = replace(build(PRESETS["cifar10"]), abar=model.abar)
    half.network.load_state_dict(model.network.state_dict())
    half.network.eval().requires_grad_(False).bfloat16()
    found = {
        "diffusers DDIMPipeline, float32": lambda: pipeline(pictures, num_inference_steps=steps, output_type="np"),
        "ddim, float32": lambda: ddim.sample(model, n=pictures, steps=steps),
        "ddim, bfloat16": lambda: ddim.sample(half, n=pictures, steps=steps),
    }
    if official:
        found = {"official, float32": _official(official, model, pictures, steps), **found}
    return found


def _official(folder: str, model: ddim.Model, pictures: int, steps: int) -> Callable[[], object]:
    """The official network and its sampling loop; its fixed "cuda" is read as the CPU."""
    sys.path.insert(0, folder)
    from types import SimpleNamespace as Space

    from functions.denoising import generalized_steps
    from models.diffusion import Model as Official

    net = Space(ch=128, out_ch=3, ch_mult=(1, 2, 2, 2), num_res_blocks=2, attn_resolutions=(16,), dropout=0.1)
    vars(net).update(in_channels=3, resamp_with_conv=True, type="simple")
    data, diffusion = Space(image_size=32), Space(num_diffusion_timesteps=1000)
    network = Official(Space(model=net, data=data, diffusion=diffusion)).eval()
    to, betas = torch.Tensor.to, torch.linspace(1e-4, 0.02, 1000)

    def run() -> object:
        torch.Tensor.to = lambda self, *a, **k: to(self, *["cpu" if x == "cuda" else x for x in a], **k)
        try:
            with torch.no_grad():
                x = torch.randn(pictures, *model.shape)
                return generalized_steps(x, range(0, 1000, 1000 // steps), network, betas, eta=0.0)
        finally:
            torch.Tensor.to = to

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--official", help="a checkout of the official code")
    o = parser.parse_args()
    runs = contenders(o.pictures, o.steps, o.official)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(o.turns + 1):  # the first turn warms up
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    base = next(iter(runs))
    print(f"{o.pictures} pictures, S = {o.steps}, {torch.get_num_threads()} threads; times as fast as {base}")
    for name, own in seconds.items():
        ratio = statistics.median(theirs / ours for theirs, ours in zip(seconds[base], own, strict=True))
        print(f"{name:34}{statistics.median(own):8.2f} s {ratio:8.2f}×")


if __name__ == "__main__":
    main()
