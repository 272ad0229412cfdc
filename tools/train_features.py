"""Train the small feature networks that the package ships.

    python tools/train_features.py digits-small
    python tools/train_features.py cifar10-small --train TRAIN.parquet --test TEST.parquet

Each is a classifier; the accuracy that it prints is on images it was not trained on, and is stored in its file.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ddim import images
from ddim.evaluation.features import Small, save_small

HERE = Path(__file__).parent.parent / "src" / "ddim" / "evaluation" / "features"


def embedded() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four fifths of the embedded digits to train on, the rest to test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits, labels = images.load(images.find("digits", 8, 1)), torch.tensor(load_digits().target)
    seen, held = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    return digits[seen], labels[seen], digits[held], labels[held]


def labelled(path: str) -> tuple[Tensor, Tensor]:
    import pyarrow.parquet

    return images.load(images.find(path, 32, 3)), torch.tensor(pyarrow.parquet.read_table(path)["label"].to_pylist())


def augmented(batch: Tensor, shift: int, flip: bool) -> Tensor:
    """Each image moved by up to `shift` pixels, half of them flipped."""
    n, _, h, w = batch.shape
    padded = F.pad(batch.float(), (shift,) * 4, mode="replicate")
    rows = torch.randint(0, 2 * shift + 1, (n, 1)) + torch.arange(h)
    columns = torch.randint(0, 2 * shift + 1, (n, 1)) + torch.arange(w)
    if flip:
        columns = torch.where(torch.rand(n, 1) < 0.5, columns.flip(1), columns)
    return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def accuracy(network: Small, held: Tensor, labels: Tensor) -> float:
    network.eval()
    with torch.no_grad():
        right = [
            (network.head(network(x)).argmax(1) == y).float()
            for x, y in zip(held.split(500), labels.split(500), strict=True)
        ]
    network.train()
    return torch.cat(right).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["digits-small", "cifar10-small"])
    parser.add_argument("--train")
    parser.add_argument("--test")
    parser.add_argument("--minutes", type=float, default=10, help="of processor time, at most")
    parser.add_argument("--epochs", type=int)
    o = parser.parse_args()
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    if o.name == "digits-small":
        x, y, x_test, y_test = embedded()
        network, shift, flip, epochs, lr = Small(1, 8, (32, 64, 64)), 1, False, o.epochs or 60, 0.05
    else:
        (x, y), (x_test, y_test) = labelled(o.train), labelled(o.test)
        network, shift, flip, epochs, lr = Small(3, 32, (32, 64, 128, 128)), 2, True, o.epochs or 12, 0.2
    network.to(memory_format=torch.channels_last)
    size, start, step = 128, time.process_time(), 0
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    total = epochs * (len(x) // size)
    for epoch in range(epochs):
        for batch in torch.randperm(len(x)).split(size)[: len(x) // size]:
            # One rise and one fall of the rate, by the part of the steps or of the time that is spent.
            spent = max(step / total, (time.process_time() - start) / (60 * o.minutes))
            for group in optimizer.param_groups:
                group["lr"] = lr * max(min(spent / 0.2, (1 - spent) / 0.8), 0)
            loss = F.cross_entropy(network.head(network(augmented(x[batch], shift, flip))), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        minutes = (time.process_time() - start) / 60
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, {minutes:.1f} min", flush=True)
        if minutes >= o.minutes:
            break
    reached = f"{accuracy(network, x_test, y_test):.4f}"
    path = HERE / f"{o.name}.safetensors"
    save_small(network, path, accuracy=reached, data="digits" if o.name == "digits-small" else "CIFAR-10")
    print(f"held-out accuracy {reached}; {path} ({path.stat().st_size / 2**20:.2f} MiB)")


if __name__ == "__main__":
    main()
