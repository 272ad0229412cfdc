"""ddim evaluate: the paper's table 1 for any model and data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddim.cli.classes import ManyClasses
from ddim.cli.models import check_first, load_model
from ddim.cli.options import Clipping, Eta, Machine, ModelName, SolverName, Spacing, parse
from ddim.cli.records import AsJson, print_json
from ddim.system.messages import say

EXAMPLES = (
    "ddim evaluate digits --n 2000 --steps 10 20 50 --eta 0 1 hat",
    "ddim evaluate runs/mine --reference train.parquet --held-out test.parquet --n 5000 --spacing quadratic",
)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """The same command continues where it was stopped.

    Started by torchrun or accelerate launch, on machines that share the folder, the processes share the sampling.
    """

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    reference: str = ""
    """Training images: `digits`, a folder, a .parquet file, a Hub id, or an .npz of statistics; by default those that
    the model was trained on."""
    held_out: str = ""
    """Real images that the model was not trained on: their FID is the floor, which no model can beat by much. By
    default the floor is the FID between two halves of the reference."""
    steps: tuple[int, ...] = (10, 20, 50, 100, 1000)
    """Numbers of steps, S: the columns."""
    eta: tuple[Eta, ...] = (0.0, 0.2, 0.5, 1.0, "hat")
    """How much noise each step adds, η: the rows. A solver without noise takes 0 alone."""
    solver: SolverName = "ddim"
    """How each step is taken."""
    afs: bool = False
    """Take the starting noise as the network's first answer, which it nearly is: one evaluation less."""
    n: int = 50_000
    """Images for each cell."""
    features: str = ""
    """digits-small, cifar10-small, inception, or a file of a feature network; by default the small one that fits the
    images, else inception."""
    spacing: Spacing = "linear"
    """How the steps are spread over the times from T to 0; the paper took quadratic for CIFAR-10, else linear."""
    seed: int = 0
    """Seed of the images."""
    classes: ManyClasses = ManyClasses()
    clipping: Clipping = Clipping()
    skip_broken: bool = False
    """Leave real images out that cannot be read, instead of stopping."""
    compile: bool = False
    """Compile the network first: a minute of waiting, then faster steps on a GPU; on a CPU it gains little."""
    report: AsJson = AsJson()
    out: Path | None = None
    """Folder to write; by default evaluations/ with the model's name."""
    machine: Machine = Machine()


def main(args: Sequence[str]) -> None:
    o = parse(Evaluate, "evaluate", args)
    from ddim.evaluation.fid_grid import evaluate
    from ddim.system.processes import processes

    workers, out = processes(o.machine.device), o.out or Path("evaluations") / Path(o.model).name
    check_first(o.model, out / "evaluate.json", (o.classes.label,))
    model = load_model(o.model, o.machine, workers.device, workers.is_main_process and not o.report.json, o.compile)
    found = evaluate(
        model, out, reference=o.reference, held_out=o.held_out, steps=o.steps, eta=o.eta, n=o.n, features=o.features,
        spacing=o.spacing, seed=o.seed, clip=o.clipping.value(), solver=o.solver + "+afs" * o.afs,
        batch_size=o.machine.batch_size, skip_broken=o.skip_broken, name=o.model, progress=True, workers=workers,
        label=o.classes.label, guidance=o.classes.value(),
    )  # fmt: skip
    if found and o.report.json:
        print_json(found)
    elif found:
        show(found)
        say("", f"table: {out / 'table.md'}, {out / 'table.json'}", f"figures: {', '.join(found['figures'])}")
        say(f"images, to continue with or to measure again: {out / 'cells'}")


def show(found: dict) -> None:
    """The report in the terminal."""
    from rich.console import Console
    from rich.table import Table

    from ddim.evaluation import report

    console = Console()
    for rows in (report.grid(found), report.details(found)):
        table = Table(*rows[0])
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    for line in report.facts(found):
        say(line)
