"""The ways to take a step, each a value on one contract: `SOLVERS` names them, `find` looks one up.

A new one is a formula made a solver by `multistep`, or a subclass of `Solver`, and a row in this table.
"""

from ddim.diffusion.solvers.contract import Multistep, Solver, multistep
from ddim.diffusion.solvers.corrector import UniPC
from ddim.diffusion.solvers.ddim import ddim
from ddim.diffusion.solvers.inversion import Exact, Implicit, Pair
from ddim.diffusion.solvers.singlestep import Heun
from ddim.diffusion.solvers.stochastic import VARIANCES, Stochastic, check_eta, noise_of
from ddim.errors import InputError, choose

__all__ = [
    "SOLVERS", "VARIANCES", "Exact", "Heun", "Implicit", "Multistep", "Pair", "Solver", "Stochastic", "UniPC",
    "check_eta", "ddim", "find", "multistep", "noise_of", "with_noise",
]  # fmt: skip

SOLVERS: dict[str, Solver] = {solver.name: solver for solver in (ddim, Heun(), UniPC(), Implicit(), Exact())}


def find(solver: str | Solver) -> Solver:
    """A solver by name, or the value itself. Raises InputError."""
    if isinstance(solver, str):
        return choose("solver", solver, SOLVERS)
    if not isinstance(solver, Solver):
        raise InputError(f"a solver is a name ({', '.join(SOLVERS)}) or a ddim.Solver; got {type(solver).__name__}")
    return solver


def with_noise(solver: str | Solver, eta: float | str, variance: str, noise) -> Solver:
    """The solver with noise in each step, (N, C, H, W) each from `noise`. η = 0 is the solver itself. InputError."""
    value, variance = noise_of(eta, variance)
    solver = find(solver)
    if value == 0:
        return solver
    if solver is not ddim:
        raise InputError(f"solver {solver.name} takes no noise: leave out eta, or choose ddim")
    return Stochastic(eta=value, variance=variance, noise=noise)
