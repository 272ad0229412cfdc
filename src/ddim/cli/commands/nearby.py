"""ddim nearby: choose an image, see its neighbours in the latent space, and so on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddim.cli.models import load_model
from ddim.cli.options import Machine, ModelName, SampleGrid, SolverName, parse
from ddim.errors import InputError
from ddim.system.messages import counted, say

EXAMPLES = (
    "ddim nearby digits                                  # a sheet of nine",
    "ddim nearby digits --choices 4 2 --distance 0.4 0.2 # the neighbours of its image 4, then of number 2 of those",
)


@dataclass(frozen=True, kw_only=True)
class Nearby:
    """Each choice leads to the neighbours of an image, itself first. Add choices to go on; leave the last out to go
    back.
    """

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    choices: tuple[int, ...] = ()
    """The image to choose of each sheet, by its number, from 0: first of the first sheet, then of the next."""
    distance: tuple[float, ...] = (0.3,)
    """How far away the neighbours are, from 0 (the same image) to 1 (any): one for all choices, or one for each."""
    n: int = 9
    """How many images a sheet has."""
    seed: int = 0
    """Seed of the first sheet; each choice takes the next one."""
    grid: SampleGrid = SampleGrid()
    solver: SolverName | None = None
    """How each step is taken; by default as in ddim sample."""
    out: Path = Path("nearby")
    """Folder to write. The sheet lies beside it."""
    machine: Machine = Machine()


def main(args: Sequence[str]) -> None:
    o = parse(Nearby, "nearby", args)
    if len(o.distance) not in (1, len(o.choices)):
        raise InputError(f"{len(o.distance)} of --distance for {len(o.choices)} --choices: give one, or one a choice")
    if o.grid.times is not None:
        raise InputError("ddim nearby takes --steps and --spacing: leave out --times")
    from ddim.jobs.neighbourhood import nearby_files

    distance = o.distance[0] if len(o.distance) == 1 else o.distance
    made = nearby_files(
        load_model(o.model, o.machine), o.out, o.choices, distance, o.n, o.seed, o.grid.steps, o.solver,
        o.grid.spacing, o.machine.batch_size, True,
    )  # fmt: skip
    say(f"{counted(o.n, 'image')}: {made.images}", f"their sheet: {made.sheet}")
