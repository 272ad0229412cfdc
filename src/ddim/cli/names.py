"""The names of spacings and solvers on the command line. Nothing here imports torch."""

import re
from typing import Annotated, Literal

from tyro.conf import arg

from ddim.errors import InputError

SPACINGS = (
    "linear", "quadratic", "power-1.5", "official-linear", "official-quadratic", "leading", "leading+1", "trailing",
    "linspace", "log-snr", "karras",
)  # fmt: skip
ANY_SPACING = re.compile(r"power-\d{1,2}(\.\d{1,6})?|(leading\+|ddim)\d{1,6}|\d{1,6}(,\d{1,6})*")  # with a number
OTHER_SPACINGS = "power-P, leading+N, ddimN or N,N,…"
Spacing = Annotated[str, arg(metavar="{" + ",".join(SPACINGS) + ",power-P,leading+N,ddimN}|N,N,…")]
SolverName = Literal[
    "ddim", "ab2", "ab3", "ipndm", "dpm++2m", "dpm++3m", "unipc", "unipc2", "unipc3", "heun", "dpm++2s", "euler-t",
    "sde-dpm++2m", "implicit", "exact", "o-belm", "adaptive", "tuned",
]  # fmt: skip


def check_spacing(name: str | None) -> None:
    """Raise InputError unless a spacing has such a name."""
    if name is not None and (power := re.fullmatch(r"power-(-?\d*\.?\d+)", name)) and float(power[1]) < 1:
        raise InputError(f"--spacing {name}: the P of power-P is at least 1; got {power[1]}")
    if name is not None and name not in SPACINGS and not ANY_SPACING.fullmatch(name):
        raise InputError(f"unknown --spacing {name!r}: choose one of {', '.join(SPACINGS)}, {OTHER_SPACINGS}")
