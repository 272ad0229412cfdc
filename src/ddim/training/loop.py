"""The steps of training, the averaged weights, and the state that a run continues from."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ddim.errors import InputError
from ddim.images.batches import numbered, order
from ddim.images.image_set import ImageSet
from ddim.images.pixels import to_float
from ddim.system.files import folder, replacing
from ddim.system.machine import sent
from ddim.training import resampling
from ddim.training.captured import Captured, capturable
from ddim.training.loss import OBJECTIVES, dropped, randomness
from ddim.training.settings import Optimiser, Settings
from ddim.training.variational import ResampledVLB, hybrid_loss


def ema(decay: float):
    """The averaging function for `AveragedModel`: decay (1+k)/(10+k) after k updates, until that exceeds `decay`."""

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], updates: Tensor) -> None:
        k = float(updates)
        torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + k) / (10 + k)))

    return update


def rate(o: Optimiser, step: int, course: float = 0.0) -> float:
    """The learning rate of a step, counted from 1: a linear rise, then level, or down half a cosine to 0.

    course: how far a run is that ends by its time, from 0 to 1: what it falls by.
    """
    rise = min(1.0, step / max(o.warmup, 1))
    fall = 0.5 * (1 + math.cos(math.pi * (course if o.time else (step - 1) / o.steps))) if o.decay else 1.0
    return o.lr * rise * fall


KEPT = ("step", "pending", "seconds", "reserve", "course", "history")  # of a state, beside its weights


@dataclass
class State:
    """Everything a run needs to go on: step `step` has been taken; `pending` losses await the next line of the log.

    Of a run that ends by its time: the seconds used, those that its end takes, and how far it is, from 0 to 1.
    """

    network: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    step: int = 0
    pending: list[float] = field(default_factory=list)
    seconds: float = 0.0
    reserve: float = 0.0
    course: float = 0.0
    history: Tensor | None = None  # of the losses, for times drawn by it: see `resampling`

    @classmethod
    def new(cls, o: Optimiser, network: nn.Module) -> "State":
        average = AveragedModel(network, multi_avg_fn=ema(o.ema))
        return cls(network, average, torch.optim.Adam(network.parameters(), lr=o.lr, fused=True))

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all: on any failure the previous one stays."""
        parts = {name: getattr(self, name).state_dict() for name in ("network", "average", "optimizer")}
        folder(path.parent)
        with replacing(path) as part, open(part, "wb") as file:
            torch.save({**{name: getattr(self, name) for name in KEPT}, **parts}, file)

    def restore(self, path: Path) -> None:
        """Take over a saved state. Raises InputError where the file is not whole."""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            for name in ("network", "average", "optimizer"):
                getattr(self, name).load_state_dict(content[name])
            for name in KEPT:
                setattr(self, name, content.get(name, getattr(self, name)))
        except Exception as error:  # torch.load raises whatever the broken archive provokes
            raise InputError(
                f"{path}: truncated, or not the state of this run; start anew with another --out"
            ) from error


def drawn(settings: Settings, state: State, step: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The random numbers of a step, see `randomness`; the times by the history of the losses where there is one."""
    times, eps, coin = randomness(settings.optimiser.seed, step, shape, settings.noise.T)
    if state.history is not None:
        times = resampling.draw(state.history, settings.optimiser.seed, step, shape[0])
    return times, eps, coin


def inputs_of(
    settings: Settings, state: State, pixels: Tensor, numbers: Tensor, labels: Tensor | None, accelerator
) -> list[Tensor]:
    """What the loss of the next step is of, on its device: x_0 (N, C, H, W), times (N,), ε, and any labels (N,).

    pixels: the images of this process's share of the batch, uint8.  numbers: theirs in the set.
    """
    d, o, device, step = settings.data, settings.optimiser, accelerator.device, state.step + 1
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    shape = (o.batch_size, d.channels, d.size, d.size)
    times, eps, coin = (sent(value[share], device) for value in drawn(settings, state, step, shape))
    x0 = to_float(sent(pixels, device))
    if d.flip:
        x0 = torch.where((coin < 0.5)[:, None, None, None], x0.flip(3), x0)
    if labels is None:
        return [x0, times, eps]
    drop = dropped(o.seed, step, o.batch_size, d.label_drop)[share]
    kept = labels[numbers].where(~drop, state.network.config.num_class_embeds - 1)  # the last is no class
    return [x0, times, eps, sent(kept, device)]


def fit(
    settings: Settings,
    state: State,
    abar: Tensor,
    images: Tensor | ImageSet,
    accelerator,
    labels: Tensor | None = None,
) -> Iterator[Tensor]:
    """Take the steps that are left, one a `next`; yields the loss of each, 0-dim, still on its device.

    labels: the class of each image, (len(images),), where the network takes classes.

    Each process works on its share of the global batch, and the loss is that of the share; what is drawn does not
    depend on how many processes there are, except by dropout.
    """
    d, o, network, device = settings.data, settings.optimiser, state.network, accelerator.device
    wrapped, optimizer = accelerator.prepare(torch.compile(network) if o.compile else network, state.optimizer)
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    if o.loss == "vlb" and state.history is None:
        state.history = resampling.empty(settings.noise.T)
    simple = OBJECTIVES[settings.network.predict]
    measure = {"simple": simple, "hybrid": hybrid_loss}.get(o.loss) or ResampledVLB(state.history)
    abar = abar.float().to(device) if measure is simple else abar  # once: a step must not wait for it
    captured = Captured(measure, wrapped, abar, accelerator) if capturable(settings, accelerator) else None
    index = order(len(images), o.batch_size, o.seed, state.step)
    stream = numbered(images, (batch[share] for batch in index), d.workers)
    network.train()
    while state.step < o.steps:
        step = state.step + 1
        inputs = inputs_of(settings, state, *next(stream), labels, accelerator)
        if settings.network.dropout:
            torch.manual_seed(o.seed * 2**32 + step * accelerator.num_processes + accelerator.process_index)
        for group in optimizer.param_groups:
            group["lr"] = rate(o, step, state.course)
        loss = captured(inputs) if captured else torch.zeros((), device=device)
        # In equal parts, one after another in memory. The processes exchange the gradients once, with the last part's.
        parts = () if captured else zip(*(value.chunk(o.accumulate) for value in inputs), strict=True)
        for k, part in enumerate(parts, 1):
            with nullcontext() if k == o.accumulate else accelerator.no_sync(wrapped):
                with accelerator.autocast():
                    share_of = measure(wrapped, *part[:3], abar, *part[3:]) / o.accumulate
                accelerator.backward(share_of)
            loss += share_of.detach()
        accelerator.clip_grad_norm_(network.parameters(), o.grad_clip)
        optimizer.step()
        if not captured:
            optimizer.zero_grad()
        if isinstance(measure, ResampledVLB):
            measure.remember(accelerator)
        state.average.update_parameters(network)
        state.step = step
        yield loss
