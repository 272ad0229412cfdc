"""`--tolerance`, which chooses the adaptive solver."""

from dataclasses import dataclass
from math import inf

from ddim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Steps as long as a stated error allows."""

    tolerance: float | None = None
    """Take as many steps for each image as keep the estimated error of each step below this (root mean square, on
    [-1, 1]), and at least --steps, by default 10. Try 0.01. It is the solver adaptive."""

    def solver(self, named: str | None) -> str | None:
        """The solver that is meant. Raises InputError where another is named, or the tolerance is not above 0."""
        if self.tolerance is None:
            return named
        if not 0 < self.tolerance < inf:
            raise InputError(f"--tolerance must be above 0; got {self.tolerance:g}")
        if named not in (None, "adaptive"):
            raise InputError(f"--tolerance is for the solver adaptive: leave out --solver {named}")
        return f"adaptive-{self.tolerance!r}"
