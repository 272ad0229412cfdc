"""ddim decode: latents to images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.cli.models import check_first, load_model
from ddim.cli.options import EXACT, Machine, ModelName, SolverName, Spacing, Times, parse
from ddim.system.messages import counted, say

EXAMPLES = (
    "ddim decode digits latents.safetensors",
    "ddim decode digits latents.safetensors --steps 20 --force  # another grid than the latents' own",
)


@dataclass(frozen=True, kw_only=True)
class Decode:
    """They are decoded with the solver and the steps that they were encoded with.

    The same command continues where it was stopped.
    """

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    latents: Annotated[Path, Positional, arg(metavar="LATENTS")]
    """A file that ddim encode wrote."""
    steps: int | None = None
    """Another number of steps than the latents' own; needs --force."""
    spacing: Spacing | None = None
    """Another spread of the steps over the times than the latents' own; needs --force."""
    times: Times = None
    """Another grid than the latents' own, falling to 0; needs --force."""
    solver: SolverName | None = None
    """How each step is taken; by default as the latents were made."""
    label: str | None = None
    """Another class than the one that they were encoded with, by its name or number."""
    guidance: float | None = None
    """How far to go towards the class, from 0 on; by default as they were encoded."""
    force: bool = False
    """Decode on another model or another grid than the latents were made with."""
    out: Path = Path("decoded")
    """Folder to write. The sheet of the first images lies beside it."""
    machine: Machine = EXACT


def main(args: Sequence[str]) -> None:
    o = parse(Decode, "decode", args)
    from ddim.jobs.latent_files import LatentFile
    from ddim.jobs.latent_jobs import decode_files

    LatentFile(o.latents)  # refused before the model is loaded
    check_first(o.model, o.out / "decode.json", (o.label,))
    model = load_model(o.model, o.machine)
    made = decode_files(
        model, o.latents, o.out, o.steps, o.spacing, o.times, o.solver, o.force, o.machine.batch_size, True,
        o.label, o.guidance,
    )  # fmt: skip
    say(f"{counted(made.n, 'image')}: {made.images}", f"sheet of the first {made.shown}: {made.sheet}")
