"""How fast is a training step, beside the official code and diffusers' example, from the same weights?

The network is the paper's CIFAR-10 U-Net without dropout. Each contender takes whole steps as its own loop does: random
times and noise, loss, gradient clipped, Adam, averaged weights. All are handed images that lie in memory.

    python bench/training.py [--official FOLDER] [--batch-size 32] [--steps 2] [--turns 5] [--device cuda]
    python bench/training.py --preset cifar10-laptop --batch-size 64 --steps 10     # a small one: its share alone
"""

from argparse import Namespace

import contest
import networks
import rates
from contest import Contender
from player import Player


def contenders(o: Namespace) -> list[Contender]:
    unnamed, absent = "" if o.official else "name a checkout by --official", contest.installed("diffusers")
    if o.preset != "cifar10":
        unnamed = absent = "has no patches"
    return [
        Contender("official, float32", lambda: official(o), missing=unnamed),
        Contender("diffusers, float32", lambda: diffusers(o), missing=absent),
        Contender("ddim, float32", lambda: ours(o, "float32"), ours=True),
        Contender("ddim, bfloat16", lambda: ours(o, "bfloat16"), ours=True, dtype="bfloat16"),
    ]


def images(o: Namespace):
    """(N, 3, H, W) uint8, as many as a step takes."""
    import torch

    return torch.randint(256, (o.batch_size, 3, o.size, o.size), generator=torch.Generator().manual_seed(2)).byte()


def official(o: Namespace) -> Player:
    """The step of the official runner's `train`."""
    import torch

    network, config, betas = networks.official(o)
    from functions import get_optimizer
    from functions.losses import noise_estimation_loss
    from models.ema import EMAHelper

    # configs/cifar10.yml
    config.optim = Namespace(optimizer="Adam", lr=2e-4, weight_decay=0.0, beta1=0.9, amsgrad=False, eps=1e-8)
    optimizer = get_optimizer(config, network.parameters())
    average = EMAHelper(mu=0.9999)
    average.register(network)
    batch = images(o).float() / 255  # as torchvision's ToTensor

    def step() -> None:
        network.train()
        x = 2 * batch.to(o.device) - 1.0
        e = torch.randn_like(x)
        t = torch.randint(low=0, high=1000, size=(len(x) // 2 + 1,)).to(o.device)
        t = torch.cat([t, 1000 - t - 1], dim=0)[: len(x)]
        loss = noise_estimation_loss(network, x, t, e, betas)
        loss.item()  # logged
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update(network)

    return Player(step, lambda: networks.answer(lambda x, i: network(x, i.float()), o, o.batch_size), o.device, o.steps)


def diffusers(o: Namespace) -> Player:
    """The step of diffusers' example for unconditional generation, in its default precision."""
    import torch
    import torch.nn.functional as F
    from accelerate import Accelerator
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    accelerator = Accelerator(mixed_precision="no", cpu=o.device == "cpu")
    unet = UNet2DModel.from_pretrained(o.folder, subfolder="unet").train()
    average = EMAModel(unet.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    noising = DDPMScheduler(1000, beta_schedule="linear")
    adam = torch.optim.AdamW(unet.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    rise = get_scheduler("cosine", adam, num_warmup_steps=500, num_training_steps=1_000_000)
    unet, adam, rise = accelerator.prepare(unet, adam, rise)
    average.to(accelerator.device)
    batch = images(o).float() / 127.5 - 1

    def step() -> None:
        x = batch.to(accelerator.device)
        noise = torch.randn(x.shape, dtype=torch.float32, device=x.device)
        t = torch.randint(0, 1000, (len(x),), device=x.device).long()
        noisy = noising.add_noise(x, noise, t)
        with accelerator.accumulate(unet):
            loss = F.mse_loss(unet(noisy, t).sample.float(), noise.float())
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(unet.parameters(), 1.0)
            adam.step()
            rise.step()
            adam.zero_grad()
        average.step(unet.parameters())
        loss.detach().item()  # shown

    return Player(step, lambda: networks.answer(lambda x, i: unet(x, i).sample, o, o.batch_size), o.device, o.steps)


def ours(o: Namespace, dtype: str) -> Player:
    """The step of `ddim train`, with its process settings."""
    import torch

    torch.set_flush_denormal(True)
    import ddim
    from ddim.training.loop import State, fit
    from ddim.training.trainer import accelerate

    precision = {"float32": "fp32", "bfloat16": "bf16"}[dtype]
    settings = networks.preset(o).changed(batch_size=o.batch_size, precision=precision)
    accelerator = accelerate(settings, o.device)
    model = ddim.load(o.folder, accelerator.device)
    network = model.network.requires_grad_(True)
    losses = fit(settings, State.new(settings.optimiser, network), model.abar, images(o), accelerator)

    def step() -> None:
        next(losses).item()

    def output() -> list[float]:
        with accelerator.autocast():
            return networks.answer(network, o, o.batch_size)

    return Player(step, output, o.device, o.steps)


def main() -> None:
    parser = contest.parser(__doc__)
    networks.options(parser)
    parser.add_argument("--batch-size", type=int, default=32, help="images a step (32)")
    parser.add_argument("--steps", type=int, default=2, help="in a turn (2)")
    parser.add_argument("--preset", default="cifar10", choices=("cifar10", "cifar10-laptop"), help="the network's")
    o = parser.parse_args()
    found = contest.hold(contenders(o), o, networks.share(o))
    work = 3 * rates.flop(networks.preset(o)) * o.batch_size * o.steps  # backwards costs twice as much as forwards
    print(f"{o.steps} steps of {o.batch_size} images, {work / 1e9:,.1f} GFLOP; medians of {o.turns} turns\n")
    print(rates.table(found, o, work))


if __name__ == "__main__":
    main()
