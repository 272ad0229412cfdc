"""The 2015 Inception network up to its pool-3 features, as published FIDs use it; parameters named as torchvision does.

It differs from torchvision's network as the TensorFlow graph did: average pooling leaves the padding out of its count,
the last block pools by maximum, and images are resized by TensorFlow 1's bilinear rule.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# A branch is a chain of convolutions, (width, kernel) each. "split" is a pair, 1×3 and 3×1, whose outputs are joined.
SEVEN, NEVES = (1, 7), (7, 1)


class Conv(nn.Module):
    """Convolution, batch norm, ReLU. Padded to keep its size where `same`."""

    def __init__(self, cin: int, cout: int, kernel: int | tuple[int, int] = 1, stride: int = 1, same: bool = True):
        super().__init__()
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (kernel[0] // 2, kernel[1] // 2) if same else 0
        self.conv = nn.Conv2d(cin, cout, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(cout, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, joined along the channels; a stride of 2 halves the maps, without padding."""

    def __init__(self, cin: int, branches: dict[str, list[tuple]], pool: int | str, stride: int = 1):
        super().__init__()
        self.pool, self.stride, self.chains, self.width = pool, stride, [], 0
        for name, chain in branches.items():
            width, names = cin, []
            for i, (cout, kernel) in enumerate(chain, 1):
                own = name if len(chain) == 1 else f"{name}_{i}"
                parts = {f"{own}a": (1, 3), f"{own}b": (3, 1)} if kernel == "split" else {own: kernel}
                last = stride == 2 and i == len(chain)
                for part, size in parts.items():
                    self.add_module(part, Conv(width, cout, size, 2 if last else 1, same=not last))
                width = cout * len(parts)
                names.append(list(parts))
            self.chains.append(names)
            self.width += width
        if isinstance(pool, int):
            self.branch_pool = Conv(cin, pool)
        self.width += pool if isinstance(pool, int) else cin

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for chain in self.chains:
            y = x
            for names in chain:
                y = torch.cat([getattr(self, name)(y) for name in names], dim=1)
            out.append(y)
        return torch.cat([*out, self.pooled(x)], dim=1)

    def pooled(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            return F.max_pool2d(x, 3, 2)
        return self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))


class LastMixed(Mixed):
    def pooled(self, x: Tensor) -> Tensor:
        return self.branch_pool(F.max_pool2d(x, 3, 1, 1))


def _a(cin: int, pool: int) -> Mixed:
    double = [(64, 1), (96, 3), (96, 3)]
    return Mixed(cin, {"branch1x1": [(64, 1)], "branch5x5": [(48, 1), (64, 5)], "branch3x3dbl": double}, pool)


def _c(width: int) -> Mixed:
    w = width
    double = [(w, 1), (w, NEVES), (w, SEVEN), (w, NEVES), (192, SEVEN)]
    seven = [(w, 1), (w, SEVEN), (192, NEVES)]
    return Mixed(768, {"branch1x1": [(192, 1)], "branch7x7": seven, "branch7x7dbl": double}, 192)


def _e(cin: int, kind: type[Mixed]) -> Mixed:
    three, double = [(384, 1), (384, "split")], [(448, 1), (384, 3), (384, "split")]
    return kind(cin, {"branch1x1": [(320, 1)], "branch3x3": three, "branch3x3dbl": double}, 192)


class Inception(nn.Module):
    """(N, 3, H, W) uint8, any size -> (N, 2048)."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2, same=False)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, same=False)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = Conv(64, 80)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, same=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _a(192, 32), _a(256, 64), _a(288, 64)
        double = [(64, 1), (96, 3), (96, 3)]
        self.Mixed_6a = Mixed(288, {"branch3x3": [(384, 3)], "branch3x3dbl": double}, "max", stride=2)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (_c(width) for width in (128, 160, 160, 192))
        seven = [(192, 1), (192, SEVEN), (192, NEVES), (192, 3)]
        self.Mixed_7a = Mixed(768, {"branch3x3": [(192, 1), (320, 3)], "branch7x7x3": seven}, "max", stride=2)
        self.Mixed_7b, self.Mixed_7c = _e(1280, Mixed), _e(2048, LastMixed)

    def forward(self, images: Tensor) -> Tensor:
        x = (resize(images.float(), 299) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name, module in self.named_children():
            x = module(x) if name.startswith("Mixed") else x
        return x.mean(dim=(2, 3))


def resize(x: Tensor, size: int) -> Tensor:
    """TensorFlow 1's bilinear resize: output pixel i looks at i · (input size / size), with no half-pixel shift."""
    rows, columns = (_weights(n, size).to(x) for n in x.shape[-2:])  # (size, H), (size, W)
    return rows @ x @ columns.T


def _weights(n: int, size: int) -> Tensor:
    """(size, n): the two input pixels that each output pixel mixes."""
    at = torch.arange(size) * (n / size)
    low = at.floor().long().clamp(max=n - 1)
    part = (at - low)[:, None]
    eye = torch.eye(n)
    return eye[low] * (1 - part) + eye[(low + 1).clamp(max=n - 1)] * part
