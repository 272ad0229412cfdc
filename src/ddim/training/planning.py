"""A training in a given time, planned: the images are looked at, the machine is measured, and the choice is said."""

import time
from contextlib import suppress
from dataclasses import replace

import torch

from ddim.diffusion.course import FEW_IMAGES
from ddim.diffusion.model import Model
from ddim.errors import InputError
from ddim.images.image_set import ImageSet, quiet
from ddim.system.messages import counted, say, warn
from ddim.training import budget
from ddim.training.budget import DataFacts, Rung, Speed
from ddim.training.held_out import how_many
from ddim.training.request import Request
from ddim.training.settings import Settings
from ddim.training.speed import measured, sum_of
from ddim.training.watch import Watch, in_words

LOOKED_AT = 200  # images whose sizes are read
LOOK = 1.0  # seconds for which images are decoded, to find broken ones before anything is measured
FEW, FEW_STEPS = 10, 50  # images to learn from; steps of a training that begins with a model
SHARE = 0.05  # of the time, that its end is thought to take at most
EVALUATIONS = 16 * 50  # of the network, for a sheet; each costs two fifths of a step's share
NETWORK = {"ch", "mult", "attention", "layers", "patch", "groups", "init"}


def planned(ask: Request, source: ImageSet, begun_with: Model | None, accelerator, watch: Watch) -> Request:
    """The request with all that it leaves open chosen for its time. Says what was chosen, and what to expect."""
    main, settings = accelerator.is_main_process, ask.settings
    data = look(source)
    if main and not settings.data.labels and source.labels and len(source.labels.classes) > 1:
        say(f"the images are of {len(source.labels.classes)} classes: --labels would teach them to the network")
    if main:
        say(f"measuring this machine, to choose for {settings.optimiser.time}")
    each = min(4.0, watch.budget / 60)  # seconds of measuring a network
    if fixed(ask):
        with torch.random.fork_rng(devices=[]):
            speed = measured(settings, accelerator, watch.clock, each, begun_with)
        seconds, shares = agreed_on(left(watch), accelerator), accelerator.num_processes
        chosen = budget.plan_fixed(
            speed, data, seconds, settings, ask.said, shares, ask.preset is not None, begun_with is not None
        )
    else:
        rung, speed = climb(ask, data, accelerator, watch, each)
        seconds = agreed_on(left(watch), accelerator)
        how = (settings, ask.said, accelerator.num_processes)
        chosen = budget.plan(rung, speed, data, seconds, *how)
        if chosen.optimiser.batch_size < batch_for(ask, accelerator):  # small steps cost more an image
            with torch.random.fork_rng(devices=[]):
                speed = measured(chosen, accelerator, watch.clock, each)
            seconds = agreed_on(left(watch), accelerator)
            chosen = budget.plan(rung, speed, data, seconds, *how)
    check_step(chosen, speed, seconds)
    # Until a sheet has been drawn and a state saved once, which measures both.
    watch.reserve = min(1 + EVALUATIONS / (2.5 * max(speed.images, 1e-9)), SHARE * watch.budget)
    if main:
        tell(chosen, speed, data, left(watch), fixed(ask))
    return replace(ask, settings=chosen)


def check_step(s: Settings, speed: Speed, seconds: float) -> None:
    """Raise InputError where a time is too short for one step."""
    batch = s.optimiser.batch_size
    if speed.images * seconds < batch:
        each, size = batch / max(speed.images, 1e-9), s.data.size
        raise InputError(
            f"{s.optimiser.time} is too short: one step of {counted(batch, 'image')} of {size}×{size} takes about "
            f"{in_words(each)} on this machine; give a smaller --batch-size or --size, or --time {short(60 * each)}"
        )


def left(watch: Watch) -> float:
    """The seconds that are left for steps."""
    return max(1.0, watch.budget - watch.used() - watch.reserve)


def fixed(ask: Request) -> bool:
    """Whether the caller has said what the network is."""
    return ask.preset is not None or bool(NETWORK & ask.said)


def look(source: ImageSet) -> DataFacts:
    """What the images of a set are like, by their headers; of many, of some spread over the set."""
    sides, grey = [], True
    start = time.monotonic()
    for i in torch.linspace(0, len(source) - 1, min(LOOKED_AT, len(source))).long().tolist():
        if not source.skip_broken and time.monotonic() - start < LOOK:
            source.decode(i)
        with suppress(Exception), quiet, source.open(i) as image:  # a broken one is refused when it is decoded
            box = source.crop
            sides.append(min(box[2] - box[0], box[3] - box[1]) if box else min(image.size))
            grey = grey and image.mode in ("1", "L", "I", "I;16", "F")
    if not sides:
        raise InputError(f"{source.name(0)}: none of the images can be read")
    return DataFacts(len(source), sorted(sides)[len(sides) // 2], grey)


def climb(ask: Request, data: DataFacts, accelerator, watch: Watch, each: float) -> tuple[Rung, Speed]:
    """Measure the networks of the ladder one after another, until one would not see enough in the time."""
    settings = ask.settings
    rungs = budget.ladder(data, settings.data.size if "size" in ask.said else None)
    speeds: dict[Rung, Speed] = {}
    for rung in rungs:
        tried = settings.changed(
            **rung.network, channels=1 if data.grey else 3, batch_size=batch_for(ask, accelerator), dropout=0.0
        )
        with torch.random.fork_rng(devices=[]):
            speeds[rung] = measured(tried, accelerator, watch.clock, each)
        seconds = agreed_on(left(watch), accelerator)
        if rung is not rungs[0] and not budget.fits(rung, speeds[rung], seconds):
            break
    if not speeds[rungs[0]].images:
        raise InputError("not enough memory even for the smallest network: give a smaller --batch-size")
    best = budget.choice(rungs, speeds, seconds)
    return best, speeds[best]


def batch_for(ask: Request, accelerator) -> int:
    """The batch that networks are measured with."""
    return ask.settings.optimiser.batch_size if "batch_size" in ask.said else 64 * accelerator.num_processes


def agreed_on(value: float, accelerator) -> float:
    """The mean over all processes, the same for all of them."""
    return sum_of(value, accelerator) / accelerator.num_processes


def tell(s: Settings, speed: Speed, data: DataFacts, seconds: float, fixed: bool) -> None:
    """Say what was chosen, how much will be seen, and what to expect."""
    d, n, o = s.data, s.network, s.optimiser
    patches = f" in patches of {n.patch}×{n.patch}" if n.patch > 1 else ""
    images, seen = min(speed.images * seconds, o.steps * o.batch_size), data.n - how_many(data.n, d.held_out)
    say(
        f"chosen: {d.size}×{d.size}{' grey' if d.channels == 1 else ''}{patches}, width {n.ch}, "
        f"batch {o.batch_size}, lr {o.lr:g} falling to 0, average {o.ema:g}"
        f"{f', dropout {n.dropout:g}' if n.dropout else ''}",
        f"expected: {speed.images:,.3g} images/s, so about {rounded(images)} images in "
        f"{in_words(seconds)}, {times_of(images / seen)}: {expectation(images, speed, s)}",
    )
    if images < FEW_IMAGES and n.predict == "eps" and not n.init and o.loss == "simple":
        say("in so short a time --predict v gives better images; it is not the paper's way, so it is yours to choose")
    if fixed and not n.init and images < speed.parameters * budget.LEAST_A_PARAMETER:
        needs = speed.parameters * budget.LEAST_A_PARAMETER / max(speed.images, 1e-9)
        warn(
            f"this network of {speed.parameters / 1e6:.1f} M parameters is too large for {o.time} on this machine: "
            f"name no preset, and one that fits is chosen; or give it --time {short(needs)} or more"
        )
    if seen < FEW:
        warn(f"{counted(seen, 'image')} will be learned by heart, and little else: give it hundreds for new ones")


def rounded(images: float) -> str:
    return f"{float(f'{images:.2g}'):,.0f}"


def times_of(share: float) -> str:
    return f"each {share:.0f} times" if share >= 1.5 else "each once" if share > 0.9 else f"{share:.0%} of yours, once"


def short(seconds: float) -> str:
    """A time as --time takes it, rounded up."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds > 1.5 * size:
            return f"{int(seconds // size) + 1}{unit}"
    return "2m"


def expectation(images: float, speed: Speed, s: Settings) -> str:
    """What samples will look like, by how much is seen: from runs on CIFAR-10."""
    if s.network.init:
        few = images < FEW_STEPS * s.optimiser.batch_size
        return "so few steps teach the model little" if few else "samples move from the model's towards these images"
    seen, grey = images / (s.data.size / 32), s.data.channels == 1
    if seen < 15_000:
        return f"expect blotches{'' if grey else ' in the right colours'}, and little more"
    if seen < 150_000:
        return f"expect {'' if grey else 'colours and '}layout, blurred"
    if seen < 1_000_000:
        return f"expect {'' if grey else 'colours and layout, and '}shapes of simple images"
    if seen < 5_000_000:
        return "expect recognisable simple images, and some objects of varied ones"
    return "expect recognisable objects (extrapolated: not measured here)"
