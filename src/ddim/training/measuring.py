"""What a run measures of itself along the way, at a small share of its time, and what that comes to at its end."""

from collections.abc import Iterator
from dataclasses import asdict

import torch

from ddim.diffusion.walk import Moment
from ddim.images.pixels import to_uint8
from ddim.plots.curves import entry
from ddim.training.held_out import LEVELS, Divided, losses_by_level, some
from ddim.training.run import Run
from ddim.training.sample_quality import Quality, in_words, quality
from ddim.training.verdict import Measurement, verdict
from ddim.training.watch import Watch

SHARE = 0.0015  # of a run's time for one measurement; there are about eight
UNTIMED = 2.0  # seconds for one, in a run that ends by its steps
TRIAL, FEWEST = 4, 8  # images
MANY, MANY_STEPS, AT_ONCE = 200, 20, 40  # samples that are measured at the end, the steps of each
MANY_SHARE = 0.02  # of a run's time for them
FEATURES = 2.0  # seconds of the feature network, about
FEWEST_HELD = 10  # images that they are compared with


class Meter:
    """Measures the averaged network on held-out images and on as many of those that it is trained on."""

    def __init__(self, run: Run, parts: Divided, watch: Watch, accelerator):
        self.run, self.parts, self.watch, self.accelerator = run, parts, watch, accelerator
        self.evaluation = 0.0  # seconds of a network's evaluation, for one image
        self.n = next((line["n"] for line in measured(run)), 0)  # the same ones after a resume

    def losses(self, n: int) -> tuple[list[float], list[float]]:
        """Of n held-out images and n training images, by noise level, with the same noise."""
        p, model, seed = self.parts, self.run.averaged(), self.run.settings.optimiser.seed
        sides = ((p.held, p.held_labels), (p.seen, p.labels))
        held, seen = (
            losses_by_level(model, *some(images, labels, n), seed, self.accelerator) for images, labels in sides
        )
        return held, seen

    def measure(self) -> None:
        """Add a line to the log: the mean over the noise levels is an estimate of the loss that training has."""
        if self.parts.held is None:
            return
        most = min(len(self.parts.held), len(self.parts.seen))
        if not self.n:
            start = self.watch.clock()
            self.losses(min(TRIAL, most))
            cost = max(1e-6, (self.watch.clock() - start) / TRIAL)
            self.n = min(most, max(FEWEST, int((SHARE * self.watch.budget or UNTIMED) / cost)))
        held, seen = self.losses(self.n)
        line = {
            "step": self.run.state.step,
            "held_out": sum(held) / LEVELS,
            "seen": sum(seen) / LEVELS,
            "n": self.n,
            "held_out_by_level": held,
        }
        self.run.append(line)

    def cost(self) -> float:
        """The seconds that samples take which are measured at the end; 0 where that is too much, or can't be done."""
        seconds = MANY * MANY_STEPS * self.evaluation + FEATURES
        held = 0 if self.parts.held is None else len(self.parts.held)
        affordable = seconds <= MANY_SHARE * (self.watch.budget or self.watch.used())
        return seconds if affordable and held >= FEWEST_HELD else 0.0

    def samples(self) -> Iterator[tuple[Iterator[Moment], None]]:
        """The walks that make them, some at a time; then a line of the log about their quality."""
        found = []
        for k in range(0, MANY, AT_ONCE):
            yield self.run.sampling(MANY_STEPS, range(k, k + AT_ONCE)), None
            found.append(to_uint8(self.run.samples.cpu()))
        line = {"step": self.run.state.step, "samples": asdict(quality(torch.cat(found), self.parts))}
        self.run.append(line)


def measured(run: Run, what: str = "held_out") -> list[dict]:
    """The measurements in a run's log."""
    if not run.logged.exists():
        return []
    lines = run.logged.read_text(encoding="utf-8", errors="replace").splitlines()
    return [found for line in lines if (found := entry(line)) and what in found]


def report(run: Run) -> list[str]:
    """What a run has reached, and whether more time would have helped, in lines."""
    found, steps = measured(run), run.state.step
    seen = [f"{steps * run.settings.optimiser.batch_size:,} images seen in {steps:,} steps"] if steps else []
    if not found:
        return seen
    last, T = found[-1], run.model.T
    levels = " ".join(f"{value:.2g}" for value in last["held_out_by_level"])
    ends = T // (2 * LEVELS), T - T // (2 * LEVELS)
    lines = [
        *seen,
        f"held-out loss {last['held_out']:.4f}, of training images {last['seen']:.4f} (by {last['n']} images of each "
        f"kind); held-out, from the least noise (t = {ends[0]}) to the most ({ends[1]}): {levels}",
    ]
    if run.finished and (samples := measured(run, "samples")):
        lines += in_words(Quality(**samples[-1]["samples"]))
    said = verdict([Measurement(line["step"], line["held_out"], line["seen"], line["n"]) for line in found])
    return lines + ([said] if said else [])
