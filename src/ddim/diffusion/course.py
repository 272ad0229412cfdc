"""Where a walk goes and how: the grid and the solver that names come to for a model, and what is taken without any."""

from collections.abc import Sequence
from typing import NamedTuple

from ddim.diffusion.model import Denoiser, levels
from ddim.diffusion.schedule import Time, grid
from ddim.diffusion.solvers import TUNED, Solver, afs, ddim, find, noise_of, tuned
from ddim.diffusion.spacings import steps_in
from ddim.errors import InputError


class Manner(NamedTuple):
    """A way to sample."""

    solver: str | Solver
    spacing: str | None  # None where the solver brings its own times
    steps: int
    eta: float | str = 0.0


class Course(NamedTuple):
    """What a manner comes to for a model."""

    times: list[Time]
    solver: Solver
    spacing: str | None  # None where the times are a solver's own, or given
    steps: int | None  # None where the times are given
    eta: float | str


# What `sample` takes for what is not said: docs/solvers.md has the measurements. The paper's own goes with its solver.
DEFAULT = Manner("unipc", "power-1.5", 10)
PAPER = Manner("ddim", "linear", 50)
YOUNG = Manner("dpm++2m", "power-1.5", 20, 1.0)  # with noise in each step a walk forgets the errors that it made before
FEW_IMAGES = 1_000_000  # a network that was trained on fewer is young


def course(
    model: Denoiser,
    solver: str | Solver,
    steps: int,
    spacing: str = "linear",
    times: Sequence[Time] | None = None,
) -> tuple[list[Time], Solver]:
    """The falling grid and the solver of a walk: see `ddim.schedule.grid`. The solver "tuned" brings its own times,
    whatever the spacing. Raises InputError.
    """
    if not is_tuned(solver):
        return grid(levels(model), steps, spacing, times), find(solver)
    if times is not None:
        raise InputError(f"solver {TUNED} has its own times: leave out times")
    levels(model)
    chosen = tuned(model, steps)
    return list(chosen.times), chosen


def is_tuned(solver: str | Solver | None) -> bool:
    """Whether a solver is named as what a model was tuned for."""
    return isinstance(solver, str) and solver == TUNED


def most_tuned(model: Denoiser) -> int:
    """The largest number of steps that a model was tuned for; the default's where it was for none."""
    tuning = getattr(getattr(model, "facts", None), "tuning", None)
    return max(tuning.solvers) if tuning and tuning.solvers else DEFAULT.steps


def manner(
    model: Denoiser,
    steps: int | None = None,
    spacing: str | None = None,
    solver: str | Solver | None = None,
    eta: float | str | None = None,
    variance: str = "small",
) -> Manner:
    """How to sample, by the one rule of precedence: what the caller says, else what the model's folder says, else
    `DEFAULT`, or `YOUNG` for a young network. Noise is DDIM's where no solver is named, and so are the steps of a
    folder whose scheduler spreads them. With the solver `ddim` the rest is the paper's. Raises InputError.
    """
    facts = getattr(model, "facts", None)
    said = facts.spacing if facts else None
    if solver is None and eta is None and variance == "small" and not said and is_young(model):
        most = sum(steps_in(spacing)) or min(YOUNG.steps, len(levels(model)) - 1) if steps is None else steps
        return YOUNG._replace(spacing=spacing or YOUNG.spacing, steps=most)
    eta = float(variance != "small") if eta is None else eta  # what is between two variances is DDPM's
    if solver is None:
        noisy = noise_of(eta, variance) != noise_of(0.0)
        solver = PAPER.solver if noisy or said else DEFAULT.solver
    if (own := is_tuned(solver)) and spacing is not None:
        raise InputError(f"solver {TUNED} has its own times: leave out spacing")
    rest = DEFAULT if own or find(solver) not in (ddim, afs(ddim)) else PAPER
    if steps is None:
        by_name = sum(steps_in(spacing or said))
        steps = most_tuned(model) if own else by_name or min(rest.steps, len(levels(model)) - 1)
    return Manner(solver, None if own else spacing or said or rest.spacing, steps, eta)


def is_young(model: Denoiser) -> bool:
    """Whether a model is known to have seen so few images that its network errs much: walks without noise end in specks
    of colour. Images as small as 8×8 are simple enough to do without.
    """
    images = getattr(getattr(model, "facts", None), "images", None)
    return bool(images) and images < FEW_IMAGES and max(getattr(model, "shape", None) or (0,)) > 8


def sampling_course(
    model: Denoiser,
    steps: int | None = None,
    spacing: str | None = None,
    times: Sequence[Time] | None = None,
    solver: str | Solver | None = None,
    eta: float | str | None = None,
    variance: str = "small",
) -> Course:
    """The falling grid, the solver (without its noise) and the η to sample with, and the names that they come from: see
    `manner`. A folder may also say that sampling ends at another time than 0, on a grid that the caller does not say.
    Raises InputError.
    """
    chosen, facts = manner(model, steps, spacing, solver, eta, variance), getattr(model, "facts", None)
    path, how = course(model, chosen.solver, chosen.steps, chosen.spacing or "", times)
    if times is not None:
        return Course(path, how, None, None, chosen.eta)
    if spacing is None and chosen.spacing is not None and facts and facts.last_time and len(path) > 2:
        path = [*(t for t in path if t > facts.last_time), facts.last_time]
    return Course(path, how, chosen.spacing, chosen.steps, chosen.eta)
