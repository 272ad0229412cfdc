"""Compiling a network for one batch size."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Padded(nn.Module):
    """A network that is only ever called with batches of one size: a smaller one is padded, and its rows returned.

    So a ragged last batch is no new shape to compile for, or to capture in a CUDA graph. The size is the first one
    seen; a larger batch is called as it is, and is the size from then on.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.size = network, 0
        self.config = getattr(network, "config", None)

    def forward(self, x: Tensor, *inputs: Tensor) -> Tensor:
        """x: (N, C, H, W).  inputs: the time index (N,) and, where there are classes, the labels."""
        n = len(x)
        self.size = max(self.size, n)
        x, *inputs = F.pad(x, (0, 0) * 3 + (0, self.size - n)), *(F.pad(each, (0, self.size - n)) for each in inputs)
        # A captured graph writes every result to the same place: what is returned must be the caller's own.
        return self.network(x, *inputs)[:n].clone()


def compiled(network: nn.Module) -> Padded:
    """The network compiled for one batch size, on a GPU with its kernels captured as a CUDA graph."""
    cuda = next(network.parameters()).device.type == "cuda"
    return Padded(torch.compile(network, mode="reduce-overhead" if cuda else "default", dynamic=False))
