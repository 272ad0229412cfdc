"""The loss of a batch and its gradients as one CUDA graph: a GPU computes the thousand kernels of a small network in
less time than a CPU takes to launch them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ddim.training.settings import Settings

WARM = 3  # batches before the capture, which set up what may not be set up within


def capturable(settings: Settings, accelerator) -> bool:
    """Whether every step launches the same kernels on the same memory, all on one GPU."""
    o = settings.optimiser
    plain = o.loss == "simple" and o.accumulate == 1 and not o.compile and not settings.network.dropout
    return plain and accelerator.device.type == "cuda" and accelerator.num_processes == 1


class Captured:
    """(x0, times, eps, *labels) -> the loss, 0-dim; leaves its gradients in the network's parameters.

    The graph reads each batch from the same memory, and writes the gradients over those of before; nothing may free
    them.
    measure: (network, x0, times, eps, abar, *labels) -> the loss, as in `loss`.
    """

    def __init__(self, measure: Callable[..., Tensor], network: nn.Module, abar: Tensor, accelerator):
        self.measure, self.network, self.abar, self.accelerator = measure, network, abar, accelerator
        self.graph: torch.cuda.CUDAGraph | None = None

    def compute(self) -> Tensor:
        x0, times, eps, *labels = self.inputs
        with self.accelerator.autocast():
            loss = self.measure(self.network, x0, times, eps, self.abar, *labels)
        self.accelerator.backward(loss)
        return loss.detach()

    def capture(self, inputs: Sequence[Tensor]) -> None:
        self.inputs = [value.clone() for value in inputs]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM):
                self.network.zero_grad()
                self.compute()
        torch.cuda.current_stream().wait_stream(aside)
        self.network.zero_grad()  # to None: the graph makes those that it writes
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = self.compute()

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        if self.graph is None:
            self.capture(inputs)
        for mine, value in zip(self.inputs, inputs, strict=True):
            mine.copy_(value, non_blocking=True)
        self.graph.replay()
        return self.loss.clone()
