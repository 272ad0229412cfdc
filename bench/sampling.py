"""How fast is sampling, beside the official code and diffusers' pipeline, on the same weights?

The network is the paper's CIFAR-10 U-Net with random weights. Every contender is as it ships: the official code with
its loop, diffusers with its pipeline, ours with the settings of our command line.

    python bench/sampling.py [--official FOLDER] [--images 32] [--steps 20] [--turns 5] [--device cuda]
"""

import time
from argparse import Namespace

import contest
import networks
import rates
from contest import Contender
from player import Player


def contenders(o: Namespace) -> list[Contender]:
    unnamed, absent = "" if o.official else "name a checkout by --official", contest.installed("diffusers")
    found = [
        Contender("official, float32", lambda: official(o), missing=unnamed),
        Contender("diffusers, float32", lambda: diffusers(o), missing=absent),
        Contender("ddim, float32", lambda: ours(o), ours=True),
        Contender("ddim, bfloat16", lambda: ours(o, "bfloat16"), ours=True, dtype="bfloat16"),
        Contender("ddim, int8", lambda: ours(o, "int8"), ours=True, dtype="bfloat16", missing=bytes_missing(o)),
    ]
    if not o.device.startswith("cuda"):
        return found
    half = {"dtype": "bfloat16"}
    return [
        *found,
        Contender("diffusers, bfloat16", lambda: diffusers(o, "bfloat16"), missing=absent, **half),
        Contender("diffusers, bfloat16, compiled", lambda: diffusers(o, "bfloat16", True), missing=absent, **half),
        Contender("ddim, bfloat16, compiled", lambda: ours(o, "bfloat16", True), ours=True, **half),
    ]


def bytes_missing(o: Namespace) -> str:
    from ddim.system.machine import native_int8

    return "" if o.device == "cpu" and native_int8() else "needs a CPU with VNNI"


def official(o: Namespace) -> Player:
    import torch

    network, _, betas = networks.official(o)
    network.eval()
    from functions.denoising import generalized_steps

    to = torch.Tensor.to
    if o.device == "cpu":  # its loop moves x to "cuda" whatever there is
        torch.Tensor.to = lambda x, *a, **k: to(x, *("cpu" if y == "cuda" else y for y in a), **k)

    def turn() -> None:
        x = torch.randn(o.images, 3, o.size, o.size, device=o.device)
        generalized_steps(x, range(0, 1000, 1000 // o.steps), network, betas, eta=0.0)

    return Player(turn, lambda: networks.answer(lambda x, index: network(x, index.float()), o, o.images), o.device)


def diffusers(o: Namespace, dtype: str = "float32", compiled: bool = False) -> Player:
    import torch
    from diffusers import DDIMPipeline, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    pipeline = DDIMPipeline.from_pretrained(o.folder).to(o.device, getattr(torch, dtype))
    pipeline.set_progress_bar_config(disable=True)
    unet = pipeline.unet
    if compiled:
        pipeline.unet = torch.compile(unet)

    def turn() -> None:
        pipeline(o.images, num_inference_steps=o.steps, output_type="np")

    return Player(turn, lambda: networks.answer(lambda x, index: unet(x, index).sample, o, o.images, dtype), o.device)


def ours(o: Namespace, dtype: str = "float32", compiled: bool = False) -> Player:
    import ddim

    model = networks.as_sampled(ddim.load(o.folder, o.device), dtype, compiled)
    network = model.network
    inside = stopwatch(network) if o.device == "cpu" else None  # a GPU works on while the host returns

    def turn() -> dict:
        start, before = time.perf_counter(), inside and inside.seconds
        ddim.sample(model, n=o.images, steps=o.steps, solver="ddim")
        return {"outside": 1 - (inside.seconds - before) / (time.perf_counter() - start)} if inside else {}

    asked = "bfloat16" if dtype == "int8" else dtype  # what the network takes and gives
    return Player(turn, lambda: networks.answer(network, o, o.images, asked), o.device)


def stopwatch(network) -> Namespace:
    """Adds up the seconds spent in a network."""
    watch = Namespace(seconds=0.0, start=0.0)

    def begin(*_) -> None:
        watch.start = time.perf_counter()

    def end(*_) -> None:
        watch.seconds += time.perf_counter() - watch.start

    network.register_forward_pre_hook(begin)
    network.register_forward_hook(end)
    return watch


def main() -> None:
    parser = contest.parser(__doc__)
    networks.options(parser)
    parser.add_argument("--images", type=int, default=32, help="sampled at once in a turn (32)")
    parser.add_argument("--steps", type=int, default=20, help="network evaluations an image (20); divides 1000")
    o = parser.parse_args()
    if o.steps < 1 or 1000 % o.steps:
        parser.error(f"--steps {o.steps}: must divide 1000, else the official code takes another number of steps")
    found = contest.hold(contenders(o), o, networks.share(o))
    work = rates.flop(networks.preset(o)) * o.images * o.steps
    print(f"{o.images} images in {o.steps} steps, {work / 1e9:,.1f} GFLOP; medians of {o.turns} turns\n")
    print(rates.table(found, o, work))
    for c in found:
        if c.told[0]:
            print(f"{c.name}: {c.tell('outside'):.2%} of the time is spent outside the network")


if __name__ == "__main__":
    main()
