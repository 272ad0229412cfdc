"""Models of a run kept on the way: numbered ones, and the one of the least held-out loss."""

from ddim.checkpoints.saving import save
from ddim.system.files import folder
from ddim.training.run import Run


def number(run: Run) -> None:
    """Keep the averaged model after every `snapshot_every` steps, as snapshots/step-0001000 of the run."""
    every = run.settings.logging.snapshot_every
    if every and run.state.step % every == 0:
        save(run.averaged(), folder(run.out / "snapshots") / f"step-{run.state.step:07d}")


def keep_best(run: Run, measurements: list[dict]) -> None:
    """Keep the averaged model as snapshots/best, where it has just had the least held-out loss.

    measurements: of the log, see `ddim.training.measuring.measured`.
    """
    if not run.settings.logging.keep_best or not measurements:
        return
    last = measurements[-1]
    if last["step"] == run.state.step and last["held_out"] <= min(line["held_out"] for line in measurements):
        save(run.averaged(), folder(run.out / "snapshots") / "best")
