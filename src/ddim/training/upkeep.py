"""What is due along a run, by steps and by minutes: sample sheets and saved states, and what they cost."""

from collections.abc import Iterator
from pathlib import Path

from ddim.diffusion.course import YOUNG
from ddim.diffusion.walk import Moment
from ddim.system.files import folder
from ddim.system.messages import warn
from ddim.training import snapshots
from ddim.training.measuring import Meter, measured
from ddim.training.run import Run
from ddim.training.watch import Timer, Watch, in_words

FIRST = 2.0  # minutes to the first sheet, at most
SHARE = 0.01  # of a run's time that one sheet may take
MARGIN = 1.25  # of what the end takes, beyond what it took before
MOST, LEAST = YOUNG.steps, 5  # steps of its walk
LOOK = 5  # seconds of steps that a forecast is made from
DAY = 86400


class Upkeep:
    """The sheets and the states of a run; only the main process makes them."""

    def __init__(self, run: Run, watch: Watch, meter: Meter):
        self.run, self.watch, self.meter = run, watch, meter
        logging, minutes = run.settings.logging, watch.budget / 60
        self.sheet = Timer(logging.sample_minutes, min(FIRST, minutes / 3 or FIRST), watch.clock)
        self.state = Timer(logging.save_minutes, logging.save_minutes, watch.clock)
        self.costs = {"draw": 0.0, "save": 0.0}
        self.walk = 0  # steps of a sheet

    def sheet_due(self) -> bool:
        return self.run.due("sample_every") or self.sheet.due()

    def sheets(self) -> Iterator[tuple[Iterator[Moment], Path | None]]:
        """The walk of a sheet and its file; before the first one of a run that ends by its time, a short walk, which
        tells how many steps it can have."""
        run, clock = self.run, self.watch.clock
        if self.watch.budget and not self.walk:
            start = clock()
            yield run.sampling(2), None
            step = max(1e-9, (clock() - start) / 2)
            self.walk = max(LEAST, min(MOST, int(SHARE * self.watch.budget / step)))
        start = clock()
        steps = min(self.walk or MOST, run.model.T)
        yield run.sampling(steps), folder(run.out / "samples") / f"step-{run.state.step:07d}.png"
        self.meter.evaluation = (clock() - start) / steps / len(run.samples)
        self.meter.measure()
        snapshots.keep_best(run, measured(run))
        self.spent("draw", start)
        self.costs["samples"] = self.meter.cost()
        self.sheet.done()
        if run.finished and self.costs["samples"]:
            yield from self.meter.samples()

    def save(self, last: bool) -> None:
        """Save the state where that is due. last: after this step there is none."""
        run, start = self.run, self.watch.clock()
        snapshots.number(run)
        first = self.watch.budget and self.costs["draw"] and not self.costs["save"]  # what the end costs is measured
        if not (last or run.due("save_every") or self.state.due() or first):
            return
        if self.watch.budget:
            run.state.seconds, run.state.reserve = self.watch.used(), self.watch.reserve
        run.save()
        self.spent("save", start)
        self.state.done()

    def spent(self, what: str, start: float) -> None:
        """Note what something took: as long will it take at the end."""
        self.costs[what] = max(self.costs[what], self.watch.clock() - start)
        if self.costs["draw"] and self.costs["save"]:
            self.watch.reserve = MARGIN * sum(self.costs.values())
        self.watch.resumed()


class Forecast:
    """Says once, after a run's first steps, that it would take days."""

    def __init__(self, run: Run, watch: Watch):
        self.run, self.clock, self.start, self.first = run, watch.clock, watch.clock(), run.state.step
        self.said = bool(watch.budget)

    def after_step(self) -> None:
        steps, seconds = self.run.state.step - self.first, self.clock() - self.start
        if self.said or steps < 1 or seconds < LOOK:
            return
        self.said = True
        o = self.run.settings.optimiser
        left = (o.steps - self.run.state.step) * seconds / steps
        if left > DAY:
            speed = f"{steps * o.batch_size / seconds:,.3g} images/s"
            warn(
                f"at {speed} this takes {in_words(left)}: give --time 2h for the best that two hours make (name no "
                "preset for a network that fits them), or train the preset cifar10-laptop; Ctrl-C stops, saved"
            )
