"""The ways to take a step, each a value on one contract: `SOLVERS` names them, `find` looks one up.

A new one is a formula made a solver by `multistep`, or a subclass of `Solver`, and a row in this table. What each is
for is in `docs/solvers.md`.
"""

from dataclasses import replace

from ddim.diffusion.solvers.adaptive import ADAPTIVE, Adaptive, adaptive
from ddim.diffusion.solvers.analytic import AnalyticalFirst, afs
from ddim.diffusion.solvers.contract import Multistep, Solver, multistep
from ddim.diffusion.solvers.corrector import UniPC
from ddim.diffusion.solvers.ddim import ddim
from ddim.diffusion.solvers.inversion import BDIA, OBELM, Exact, Implicit, Pair
from ddim.diffusion.solvers.multisteps import ab2, ab3, dpm2m, dpm2m_mean, dpm3m, ipndm
from ddim.diffusion.solvers.singlestep import DPM2S, EulerT, Heun
from ddim.diffusion.solvers.stochastic import SDE, VARIANCES, Stochastic, check_eta, check_variance, noise_of
from ddim.diffusion.solvers.tuned import TUNED, Tuned, Tuning, clip_with, of_model, tuned
from ddim.errors import InputError, choose

__all__ = [
    "BDIA", "DPM2S", "OBELM", "SDE", "SOLVERS", "TUNED", "VARIANCES", "Adaptive", "AnalyticalFirst", "EulerT", "Exact",
    "Heun", "Implicit", "Multistep", "Pair", "Solver", "Stochastic", "Tuned", "Tuning", "UniPC", "ab2", "ab3", "afs",
    "check_eta", "check_variance", "clip_with", "ddim", "dpm2m", "dpm3m", "find", "ipndm", "multistep", "noise_of",
    "of_model", "tuned", "with_noise",
]  # fmt: skip

SOLVERS: dict[str, Solver] = {
    solver.name: solver
    for solver in (
        *(ddim, ab2, ab3, ipndm, dpm2m, dpm3m, UniPC(), UniPC("unipc3", order=4, predictions=3)),
        *(Heun(), DPM2S(), EulerT(), SDE, Implicit(), BDIA(), OBELM(), Adaptive()),
    )
}
SOLVERS["unipc2"] = SOLVERS["unipc"]  # another name of the same


def find(solver: str | Solver) -> Solver:
    """A solver by name, or the value itself. "NAME+afs" is NAME with the analytical first step. Raises InputError."""
    if isinstance(solver, str):
        if solver.removesuffix("+afs") == TUNED:
            why = "takes no +afs" if solver != TUNED else "is a model's own and samples only"
            raise InputError(f"solver {TUNED} {why}: choose one of {', '.join(SOLVERS)}")
        if solver.startswith(f"{ADAPTIVE}-"):
            return adaptive(solver)
        name, plus, _ = solver.partition("+afs") if solver.endswith("+afs") else (solver, "", "")
        return afs(choose("solver", name, SOLVERS)) if plus else choose("solver", name, SOLVERS)
    if not isinstance(solver, Solver):
        formula = ": put @ddim.multistep(1) above a formula" if callable(solver) else ""
        names = ", ".join(SOLVERS)
        raise InputError(f"a solver is a name ({names}) or a ddim.Solver; got {type(solver).__name__}{formula}")
    return solver


def with_noise(solver: str | Solver, eta: float | str, variance: str, noise) -> Solver:
    """The solver with noise in each step, (N, C, H, W) each from `noise`. η = 0 is the solver itself, but for
    `sde-dpm++2m`, whose η is 1. Raises InputError where η is not defined for a solver.
    """
    value, variance = noise_of(eta, variance)
    solver = find(solver)
    if isinstance(solver, AnalyticalFirst):
        return afs(with_noise(solver.solver, eta, variance, noise))
    if solver is SDE:
        if value not in (0, 1) or variance != "small":
            raise InputError(f"solver {solver.name} is dpm++2m with eta 1; for another, choose dpm++2m with eta")
        return replace(solver, noise=noise)
    if value == 0:
        return solver
    if solver is dpm2m:
        return Stochastic(dpm2m.name, 2, value, variance, noise, dpm2m_mean, 2)
    if solver is not ddim:
        raise InputError(f"solver {solver.name} takes no noise: leave out eta, or choose ddim or dpm++2m")
    return Stochastic(eta=value, variance=variance, noise=noise)
