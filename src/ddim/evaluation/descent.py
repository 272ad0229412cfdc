"""Times and coefficients of a few steps, by gradient descent on the distance to where more steps end."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ddim.diffusion.guidance import Labelled
from ddim.diffusion.model import Denoiser, Model
from ddim.diffusion.noise import normal
from ddim.diffusion.process import Prediction
from ddim.diffusion.schedule import Time, grid
from ddim.diffusion.solvers.tuned import MEMORY, Tuned
from ddim.diffusion.walk import last, walk
from ddim.evaluation.encoder_distance import distance_for
from ddim.system.machine import free_memory

RATES = {"times": 0.03, "asked": 0.02, "x": 0.005, "x0": 0.005}  # of Adam, at the start
AIM, AIM_SPACING, AIM_SOLVER = 10, "power-1.5", "unipc"  # the steps that are learned from: docs/solvers.md says why
NEAREST = 1.0  # a time other than 0 is no lower: below it there is no network index


@dataclass
class Pairs:
    """Noises and where `aim` steps lead from them: n images of a seed, from number `first` on."""

    model: Model
    n: int
    seed: int
    batch_size: int
    first: int = 0
    aim: int = AIM
    ends: list[Tensor] = field(default_factory=list)

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """The classes of images, in turn, that of no class included; None for a model without any."""
        if not self.model.embeddings:
            return None
        return torch.tensor([self.first + i for i in indices], device=self.model.device) % self.model.embeddings

    def make(self, advance: Callable[..., None]) -> None:
        """Walk them."""
        times = grid(self.model.abar, min(self.aim, self.model.T), AIM_SPACING)
        for start in range(0, self.n, self.batch_size):
            indices = range(start, min(start + self.batch_size, self.n))
            x, labelled = self.noise(indices), sampled(self.model, self.labels(indices))
            with torch.no_grad():
                for moment in walk(labelled, x, times, AIM_SOLVER):
                    advance(len(indices))
            self.ends.extend(moment.x.cpu())

    def noise(self, indices: Sequence[int]) -> Tensor:
        return normal(self.seed, [self.first + i for i in indices], self.model.shape).to(self.model.device)

    def of(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Noises, ends and labels of some of them."""
        ends = torch.stack([self.ends[i] for i in indices]).to(self.model.device)
        return self.noise(indices), ends, self.labels(indices)


def sampled(model: Model, labels: Tensor | None) -> Denoiser:
    """The model as `ddim.sample` walks it with a tuned solver: with labels, and without clipping, which costs few
    steps more than it gives them: docs/solvers.md."""
    return model if labels is None else Labelled(model, labels)


@torch.no_grad()
def apart(pairs: Pairs, solver: Tuned, indices: Sequence[int]) -> tuple[float, float]:
    """The mean distance of a solver's ends from those aimed at, and that of their pixels: the root mean square on
    [0, 1].
    """
    distance, total, pixels = distance_for(pairs.model), 0.0, 0.0
    for start in range(0, len(indices), pairs.batch_size):
        x, ends, labels = pairs.of(indices[start : start + pairs.batch_size])
        found = last(walk(sampled(pairs.model, labels), x, solver.times, solver)).x
        total += distance(found, ends, labels).double().sum().item()
        gap = (found.clamp(-1, 1) - ends.clamp(-1, 1)) / 2
        pixels += gap.flatten(1).square().mean(1).sqrt().double().sum().item()
    return total / len(indices), pixels / len(indices)


@dataclass(frozen=True)
class Recomputed:
    """A model whose activations are computed again for its gradient, instead of kept."""

    model: Denoiser

    @property
    def abar(self) -> Tensor:
        return self.model.abar

    def __call__(self, x: Tensor, t: Time) -> Prediction:
        return checkpoint(self.model, x, t, use_reentrant=False)


class Coefficients:
    """What is learned of S steps, from those of a solver: see `Tuned`."""

    def __init__(self, start: Tuned, T: int):
        S = len(start.asked)
        times = torch.tensor([float(t) for t in start.times[1:-1]], dtype=torch.float64)  # (S − 1,)
        self.T, self.base = T, start.base
        # Off the whole times, where a level has no gradient: it is looked up there.
        self.times = ((times.clamp(NEAREST + 0.01, T - 0.01) + 1e-3) / T).logit()
        self.asked = torch.zeros(S, dtype=torch.float64)  # the log of what a time is multiplied by
        self.x, self.x0 = torch.zeros(S), torch.zeros(S, MEMORY)
        self.all = {name: getattr(self, name).requires_grad_() for name in RATES}

    def solver(self, n: int = 0) -> Tuned:
        """As tensors that carry their gradients, with (n,) times; as numbers where n is 0."""
        times = [torch.tensor(float(self.T), dtype=torch.float64), *(self.T * self.times.sigmoid())]
        asked = [(t * shift.exp()).clamp(NEAREST, self.T) for t, shift in zip(times, self.asked, strict=True)]
        if n:
            times, asked = ([t.expand(n) for t in found] for found in (times, asked))
            return Tuned(times=[*times, 0], asked=asked, x=self.x, x0=self.x0, base=self.base)
        times, asked = (tuple(round(t.item(), 3) for t in found) for found in (times, asked))
        x, *x0 = (tuple(round(v, 6) for v in row) for row in (self.x.tolist(), *self.x0.tolist()))
        return Tuned(times=(*times, 0), asked=asked, x=x, x0=tuple(x0), base=self.base)

    @torch.no_grad()
    def order(self) -> None:
        """Keep the times falling, and above the level that the network knows last."""
        bound = (1 - 1e-3 / self.T * torch.arange(1, len(self.times) + 1, dtype=torch.float64)).logit()
        lowest = torch.tensor((NEAREST + 0.01) / self.T, dtype=torch.float64).logit()
        for i in range(len(self.times)):
            upper = bound[i] if i == 0 else self.times[i - 1] - 1e-2
            self.times[i] = torch.minimum(self.times[i], upper)
        for i in reversed(range(len(self.times))):
            least = lowest if i == len(self.times) - 1 else self.times[i + 1] + 1e-2
            self.times[i] = torch.maximum(self.times[i], least)


def kept_bytes(model: Denoiser, x: Tensor, T: int) -> int:
    """Bytes that autograd keeps for one evaluation of one image."""
    total = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model(x[:1].clone().requires_grad_(), T)
    return max(total, 1)


def descend(
    pairs: Pairs, start: Tuned, steps: int, seconds: float | None, batch: int, report: Callable[[int, int, Tuned], None]
) -> None:
    """Adam with half-cosine rates on batches of the pairs, in turn. `steps`, or fewer where `seconds` are short.

    report: is called with how many steps are done, of how many, and the solver as it is.
    """
    model, distance = pairs.model, distance_for(pairs.model)
    found, S = Coefficients(start, model.T), len(start.asked)
    batch = min(batch, pairs.n)
    room = free_memory(model.device) // 4
    one = kept_bytes(sampled(model, pairs.labels([0])), pairs.noise([0]), model.T)
    again = one * S * batch > room
    size = max(1, min(batch, room // one)) if again else batch
    optimiser = torch.optim.Adam([{"params": [value], "lr": RATES[name]} for name, value in found.all.items()])
    order, begun = torch.Generator().manual_seed(pairs.seed), time.monotonic()
    queue: list[int] = []
    i = 0
    while i < steps:
        share = 0.5 * (1 + math.cos(math.pi * i / steps))
        for group, rate in zip(optimiser.param_groups, RATES.values(), strict=True):
            group["lr"] = rate * share
        if len(queue) < batch:
            queue = torch.randperm(pairs.n, generator=order).tolist()
        taken, queue = queue[:batch], queue[batch:]
        optimiser.zero_grad()
        for at in range(0, batch, size):
            x, ends, labels = pairs.of(taken[at : at + size])
            asked = sampled(model, labels)
            solver = found.solver(len(x))
            end = last(walk(Recomputed(asked) if again else asked, x, solver.times, solver)).x
            (distance(end, ends, labels).sum() / batch).backward()
        optimiser.step()
        found.order()
        i += 1
        if seconds is not None and i == 3:  # as many as there is time for: the rates fall over all of them
            steps = max(i, min(steps, int(seconds / ((time.monotonic() - begun) / i))))
        report(i, steps, found.solver())
