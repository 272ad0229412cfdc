"""What share of a model's samples is recognised as their class, by guidance?

By a classifier that has no part in the features of FID: a residual network, trained here for some minutes and kept in
the file that --judge names. It says of real images, too, how many it recognises.

    python bench/recognised.py cifar10 --data train.parquet --test test.parquet --judge judge.safetensors
"""

import argparse
import time
from pathlib import Path

import contest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import ddim
from ddim import images
from ddim.images import to_float, to_uint8

BATCH, RATE, SHIFT = 128, 0.15, 4


class Pair(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.Sequential(convolution(width, width), convolution(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def convolution(cin: int, cout: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU())


def network(channels: int, classes: int) -> nn.Sequential:
    """(N, C, H, W) in [−1, 1] -> (N, classes)."""
    return nn.Sequential(
        *(convolution(channels, 48), convolution(48, 96), nn.MaxPool2d(2), Pair(96)),
        *(convolution(96, 160), nn.MaxPool2d(2), convolution(160, 160), nn.MaxPool2d(2), Pair(160)),
        *(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(160, classes)),
    ).to(memory_format=torch.channels_last)


def read(source: str, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    found = images.find(source, shape[1], shape[0])
    whole, numbers = images.cache.load_numbered(found)
    return whole, torch.from_numpy(found.labels.numbers)[numbers]


def trained(judge: nn.Sequential, x: Tensor, y: Tensor, minutes: float) -> None:
    """Train for minutes of processor time: the rate rises for a fifth of them, then falls to 0. Images are flipped and
    moved by up to SHIFT pixels."""
    optimizer = torch.optim.SGD(judge.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4, nesterov=True)
    generator, start, seen = torch.Generator().manual_seed(1), time.process_time(), 0
    judge.train()
    while True:
        for batch in torch.randperm(len(x), generator=generator).split(BATCH):
            spent = (time.process_time() - start) / (60 * minutes)
            if spent >= 1:
                return print(f"the classifier saw {seen:,} images in {minutes:g} minutes", flush=True)
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(spent / 0.2, (1 - spent) / 0.8)
            part = F.pad(to_float(x[batch]), (SHIFT,) * 4, mode="reflect")
            top, left, flip = torch.randint(0, 2 * SHIFT + 1, (3,), generator=generator).tolist()
            part = part[..., top : top + x.shape[2], left : left + x.shape[3]]
            part = part.flip(3) if flip % 2 else part
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(judge(part.contiguous(memory_format=torch.channels_last)), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(batch)


@torch.no_grad()
def share(judge: nn.Sequential, x: Tensor, y: Tensor) -> float:
    """The share of images (N, C, H, W) uint8 whose class is found."""
    judge.eval()
    found = torch.cat([judge(to_float(part)).argmax(1) for part in x.split(500)])
    return (found == y).double().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True, help="images to train the classifier on, with labels")
    parser.add_argument("--test", required=True, help="others, that it is tested on")
    parser.add_argument("--judge", type=Path, required=True, help="file of the classifier; made where there is none")
    parser.add_argument("--minutes", type=float, default=10, help="of processor time, to train it (10)")
    parser.add_argument("--n", type=int, nargs="+", default=[64, 640], help="samples (64 640)")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1, 1.5, 2, 3])
    o = parser.parse_args()
    model = ddim.prepare(ddim.load(o.model, "cpu"))
    torch.manual_seed(1)
    judge = network(model.shape[0], len(model.classes))
    if not o.judge.exists():
        trained(judge, *read(str(o.data), model.shape), o.minutes)
        save_file({name: value.contiguous() for name, value in judge.state_dict().items()}, o.judge)
    judge.load_state_dict(load_file(o.judge))
    print(f"of the real images of {Path(o.test).name} it recognises {share(judge, *read(o.test, model.shape)):.1%}")
    rows = []
    for guidance in o.guidance:
        made = to_uint8(ddim.sample(model, max(o.n), label="all", guidance=guidance, progress=True))
        labels = torch.arange(len(made)) % len(model.classes)
        rows.append([f"{guidance:g}", *(f"{share(judge, made[:n], labels[:n]):.1%}" for n in o.n)])
    print(contest.markdown(["guidance", *(f"of the first {n} samples" for n in o.n)], rows))


if __name__ == "__main__":
    main()
