"""Solvers tuned to one model, from noise alone: the best grid of a family, then times and coefficients by descent."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ddim.checkpoints.layouts.official import CHECKPOINT
from ddim.checkpoints.loading import load
from ddim.checkpoints.saving import UNET, WEIGHTS, save
from ddim.checkpoints.tuned_solvers import SOLVERS, write
from ddim.diffusion.model import Model, levels
from ddim.diffusion.noise import check_seed
from ddim.diffusion.sampling import default_batch_size
from ddim.diffusion.schedule import grid
from ddim.diffusion.solvers.tuned import BASES, MEMORY, Tuned, Tuning
from ddim.errors import InputError, check_whole, listed
from ddim.evaluation.descent import AIM, Pairs, apart, descend
from ddim.evaluation.encoder_distance import distance_for
from ddim.jobs.bars import bar
from ddim.plots.curves import tuning_curves
from ddim.system.files import folder, writable
from ddim.system.messages import warn

START = ("dpm++3m",)  # bases to begin with: from dpm++2m, descent ends as near, with a worse FID (docs/solvers.md)
FAMILY = ("linear", "power-1.25", "power-1.5", "power-1.75", "quadratic", "power-2.5")
FEW = 32  # pairs that the family is measured on
HELD_OUT = 128  # pairs that nothing is learned from
DESCENT = 100  # steps of gradient descent, for each number of steps of the solver
BATCH = 16  # pairs in each of them
LOOKS = 5  # at the held-out pairs on the way
SEED = 2020  # of the noise: not that of the images which are measured later


def tune(
    model: Model,
    steps: Sequence[int] = (4, 5, 6, 8),
    out: str | Path | None = None,
    seconds: float | None = None,
    pairs: int = 320,
    seed: int = SEED,
    descent: int = DESCENT,
    batch_size: int | None = None,
    progress: bool = False,
    report: Callable[[int, Tuned], None] | None = None,
    aim: int | None = None,
) -> Model:
    """The model with solvers tuned for each number of `steps`: `ddim.sample(model, steps=5, solver="tuned")`.

    From `pairs` noises and where `aim` steps of `unipc` lead from them (by default 10, or as many as the most of
    `steps`), and 128 more that decide whether it got better; no images.
    out: a folder, whose solvers.json and solvers.png are written after each number of steps, and the model too where it
    has none; what the model was tuned for before is kept.  seconds: about as long as it may take.
    report: is called with each solver. Memory holds the pairs, and activations of a quarter of what is free at most.
    Raises InputError.
    """
    check(model, steps, pairs, seed, descent, seconds, aim)
    out = None if out is None else folder(Path(out))  # refused before the work
    before = model.facts.tuning
    kept = dict(before.solvers) if before and before.model == model.fingerprint else {}
    every, begun = sorted(set(steps)), time.monotonic()
    size = batch_size or default_batch_size(model)
    aim = aim or max(AIM, *every)
    learned, held_out = (Pairs(model, n, seed, size, first, aim) for first, n in ((0, pairs), (pairs, HELD_OUT)))
    with bar("walking to the aim", (pairs + HELD_OUT) * min(aim, model.T), progress) as advance:
        for each in (learned, held_out):
            each.make(advance)
    for i, S in enumerate(every):
        left = None if seconds is None else max(0.0, begun + seconds - time.monotonic()) / (len(every) - i)
        kept[S] = tuned_for(S, learned, held_out, descent, left, progress)
        model = replace(model, facts=replace(model.facts, tuning=Tuning(model.fingerprint, dict(kept))))
        if out is not None:
            write(model.facts.tuning, out) if holds_model(out) else save(model, out)
            tuning_curves(model.facts.tuning.solvers, out / Path(SOLVERS).with_suffix(".png"))
        if report:
            report(S, kept[S])
    return model


def folder_for(source: str, out: Path | None, device: str | None) -> tuple[Model, Path]:
    """A model, and the folder that its solvers belong to: `out`, else its own, else tuned/ with its name. What lies in
    that folder already counts. Raises InputError where it has another model.
    """
    model, own = load(source, device), Path(source).expanduser()
    yours = own.is_dir() and not (own / CHECKPOINT).is_file()  # what the official code trained is a file in a folder
    to = out or (own if yours else Path("tuned") / own.name)
    writable(to)
    if holds_model(to):
        if (found := load(to, device)).fingerprint != model.fingerprint:
            raise InputError(f"{to}: holds another model; name another folder")
        return found, to  # with what it was tuned for
    return model, to


def holds_model(at: Path) -> bool:
    """Whether a folder holds a model, whole or in part."""
    return any((at / name).exists() for name in (WEIGHTS, UNET, UNET.name))


def check(
    model: Model,
    steps: Sequence[int],
    pairs: int,
    seed: int,
    descent: int = DESCENT,
    seconds: float | None = None,
    aim: int | None = None,
) -> None:
    """Raise InputError where a model cannot be tuned so."""
    levels(model), check_seed(seed), check_whole("pairs", pairs, FEW), check_whole("descent", descent, 0)
    if not isinstance(model, Model) or model.facts.precision != "fp32":
        raise InputError("tuning needs the model in float32 and unpacked, as ddim.load gives it")
    if not listed("steps", steps):
        raise InputError("tune needs at least one number of steps")
    for S in steps:
        check_whole("steps", S, 2)
        if S > 20:
            raise InputError(f"steps to tune for must be at most 20; got {S}: more need no tuning")
    if aim is not None and not (isinstance(aim, int) and max(steps) <= aim <= model.T):
        raise InputError(
            f"aim must be a number of steps from {max(steps)}, the most to tune for, to {model.T}; got {aim}"
        )
    grid(model.abar, max(steps))
    if model.abar[-1] == 0:
        raise InputError(
            "the noise schedule ends without any signal, so no solver can be tuned to it: choose ddim or unipc"
        )
    if seconds is not None and not seconds > 0:
        raise InputError(f"the time to tune must be above 0; got {seconds}")


def tuned_for(S: int, learned: Pairs, held_out: Pairs, descent: int, seconds: float | None, progress: bool) -> Tuned:
    """The best seen on the held-out pairs, before, on the way or after, for S steps."""
    model, every, begun = learned.model, range(held_out.n), time.monotonic()
    base, spacing = best_of_family(S, learned)
    start = untuned(model, S, base, spacing)
    seen, curve = [start], [(0, *apart(held_out, start, every))]
    left = None if seconds is None else max(0.0, seconds - (time.monotonic() - begun)) * 0.8  # the rest for looks

    with bar(f"tuning {S} steps", descent, progress) as advance:

        def look(i: int, total: int, solver: Tuned) -> None:
            if (i * LOOKS) // total > ((i - 1) * LOOKS) // total:
                seen.append(solver)
                curve.append((i, *apart(held_out, solver, every)))
                advance(0, f"held out {curve[0][1]:.3f} → {curve[-1][1]:.3f}")
            advance(descent / total)

        with suppress(InputError):  # gone astray, to numbers that are not finite: what was seen before counts
            descend(learned, start, descent, left, BATCH, look)
    best = min(range(len(curve)), key=lambda i: curve[i][1])
    if best == 0:
        warn(f"{S} steps: descent gained nothing; {base} on {spacing} is kept as it is")
    about = {
        "start": spacing,
        "distance": distance_for(model).name,
        "held_out": [[i, *(float(f"{value:.5g}") for value in row)] for i, *row in curve],
        **{"kept": curve[best][0], "pairs": learned.n, "aim": learned.aim, "seed": learned.seed},
        "seconds": round(time.monotonic() - begun, 1),
    }
    return replace(seen[best], about=about)


def best_of_family(S: int, pairs: Pairs) -> tuple[str, str]:
    """The base and the spacing whose ends are nearest to those aimed at, on a few pairs."""
    few = range(min(FEW, pairs.n))
    found = {(b, s): apart(pairs, untuned(pairs.model, S, b, s), few)[0] for b in START for s in FAMILY}
    return min(found, key=found.get)


def untuned(model: Model, S: int, base: str, spacing: str) -> Tuned:
    """A base without corrections."""
    times = tuple(grid(model.abar, S, spacing))
    return Tuned(times=times, asked=times[:-1], x=(0.0,) * S, x0=((0.0,) * MEMORY,) * S, base=BASES[base])
