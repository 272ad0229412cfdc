"""How fast this machine trains a network: by real steps, some seconds of them."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from statistics import median

import torch

from ddim.diffusion.model import Model
from ddim.system.machine import out_of_memory
from ddim.training.budget import Speed
from ddim.training.loop import State
from ddim.training.loss import loss_of
from ddim.training.new_model import build
from ddim.training.settings import Settings
from ddim.training.variational import hybrid_loss
from ddim.training.watch import Clock

FIRST, TRIAL = 2, 8  # images of the first step, which may take long, and of the second
MOST = 100  # steps


def measured(settings: Settings, accelerator, clock: Clock, seconds: float, model: Model | None = None) -> Speed:
    """The speed of the network that settings ask for, all processes at once, in steps of about `seconds` together.

    model: whose network to take, where there is one already; a copy of it is trained. The first steps are not counted:
    they set up more than a step does.
    """
    model = build(settings) if model is None else replace(model, network=deepcopy(model.network))
    network = model.network.requires_grad_(True).to(accelerator.device).train()
    state, shares = State.new(settings.optimiser, network), accelerator.num_processes
    parameters = sum(p.numel() for p in network.parameters())
    batch = max(1, settings.optimiser.batch_size // (shares * settings.optimiser.accumulate))
    take = partial(step, settings, state, model.abar, accelerator=accelerator, clock=clock)
    try:
        n = min(FIRST, batch)
        each = take(n) / n
        if accelerator.device.type != "cpu":  # there the first one takes seconds, whatever the network
            each = take(n) / n
        if TRIAL * each < 2 * seconds:
            n = min(TRIAL, batch)
            each = take(n) / n
        while n < batch and n * each < seconds / 20:  # so short a step may be as short with more images
            n = min(4 * n, batch)
            each = take(n) / n
        n = int(max(n, min(batch, seconds / 2 / max(each, 1e-9))))
        taken: list[float] = []
        while len(taken) < 3 or (sum(taken) < seconds / 2 and len(taken) < MOST):
            taken.append(max(take(n), 1e-9))
            if sum(taken) > seconds:
                break
    except Exception as error:
        if not out_of_memory(error):
            raise
        return Speed(0.0, parameters)  # it does not fit
    return Speed(sum_of(n / median(taken), accelerator), parameters)


def step(settings: Settings, state: State, abar: torch.Tensor, n: int, accelerator, clock: Clock) -> float:
    """Take one step on n images of noise; the seconds that it took."""
    d, network = settings.data, state.network
    start = clock()
    x0 = torch.randn(n, d.channels, d.size, d.size, device=accelerator.device)
    times = torch.randint(1, len(abar), (n,)).to(accelerator.device)
    table = getattr(network, "class_embedding", None)
    labels = () if table is None else (torch.zeros(n, dtype=torch.long, device=accelerator.device),)
    with accelerator.autocast():
        measure = loss_of if settings.optimiser.loss == "simple" else hybrid_loss
        loss = measure(network, x0, times, torch.randn_like(x0), abar, *labels)
    loss.backward()
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.average.update_parameters(network)
    loss.item()  # a GPU is waited for
    return clock() - start


def sum_of(value: float, accelerator) -> float:
    """The sum of a number over all processes, the same for all of them."""
    if accelerator.num_processes == 1:
        return value
    return accelerator.reduce(torch.tensor(value, device=accelerator.device), "sum").item()
