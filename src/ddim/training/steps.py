"""The steps of a run with all that goes on around them: the log, the bar, the clock, what is drawn and saved."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ddim.diffusion.walk import Moment
from ddim.system.messages import say, warn
from ddim.system.processes import interruptible
from ddim.training.devices import agreed
from ddim.training.held_out import Divided
from ddim.training.loop import fit, rate
from ddim.training.measuring import Meter
from ddim.training.run import Run
from ddim.training.upkeep import Forecast, Upkeep
from ddim.training.watch import Watch, in_words

Sheet = tuple[Iterator[Moment], Path | None]


def steps(run: Run, parts: Divided, accelerator, watch: Watch, advance) -> Iterator[Sheet]:
    """Take the steps that are left, and do what is due along them.

    Yields, for each sheet that is due, the walk that makes its samples, and the file that it is to become; None for a
    trial. `run.finished` says at last whether there is nothing left to do.
    """
    state, main, o = run.state, accelerator.is_main_process, run.settings.optimiser
    upkeep = Upkeep(run, watch, Meter(run, parts, watch, accelerator))
    with interruptible(accelerator.num_processes == 1) as interrupted:
        since, run.finished = time.monotonic(), watch.over() or state.step >= o.steps
        agreement = torch.tensor([0.0, 0.0, state.course], device=accelerator.device)
        forecast = Forecast(run, watch)
        todo = () if run.finished else fit(run.settings, state, run.model.abar, parts.seen, accelerator, parts.labels)
        for loss in todo:
            watch.stepped()
            mine = [float(bool(interrupted)), float(watch.over()), watch.course()]
            loss, agreement, (stop, over, course) = agreed(loss, mine, agreement, accelerator)
            run.finished = over > 0 or state.step >= o.steps
            run.losses.append(loss)
            note, since = run.write(since, stop > 0 or run.finished, main)
            state.course = course  # of the next step
            advance(note=note, **left(run, watch))
            if main:
                forecast.after_step()
                if upkeep.sheet_due():
                    yield from upkeep.sheets()
                upkeep.save(stop > 0 or run.finished)
            if stop or run.finished:
                break
        if not todo and main:
            run.save()  # a kill after the last state leaves the model of an older one
        accelerator.wait_for_everyone()  # a process that ended before would have the others ended by the launcher


def continue_by(watch: Watch, run: Run, changes: dict[str, Any], main: bool) -> None:
    """Let the watch go on from the state of a run, and the learning rate too, or by the run's new time."""
    state, o = run.state, run.settings.optimiser
    watch.restart(state.seconds, state.reserve)
    if watch.over() and main:
        used, more = in_words(state.seconds), longer(watch.budget)
        warn(
            f"{used} of {in_words(watch.budget)} are used, so nothing is left to do: give a longer time in all, such "
            f"as --time {more}"
        )
    if watch.budget and "time" in changes:
        before, state.course = rate(o, state.step + 1, state.course), watch.course()
        now = rate(o, state.step + 1, state.course)
        if main and not watch.over():
            used, before, now = in_words(state.seconds), f"{before:.2g}", f"{now:.2g}"
            course = now if now == before else f"{now}, not {before},"
            say(f"{used} of {in_words(watch.budget)} are used: the learning rate goes on from {course} to 0")


def longer(seconds: float) -> str:
    """Twice a time, as --time takes it."""
    minutes = max(1, round(2 * seconds / 60))
    return f"{minutes}m" if minutes < 120 else f"{round(minutes / 60)}h"


def left(run: Run, watch: Watch) -> dict[str, float]:
    """What the bar is to show of a run that ends by its time: the steps that it is likely to take, and the seconds."""
    if not watch.budget:
        return {}
    course = max(watch.course(), 1e-9)
    return {"total": max(run.state.step, round(run.state.step / course)), "left": watch.budget - watch.used()}
