"""ddim reproduce: the paper's tables and figures for one model, in one report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddim.cli.models import load_model
from ddim.cli.options import Machine, ModelName, Spacing, parse
from ddim.system.messages import say

EXAMPLES = (
    "ddim reproduce digits --n 1000 --steps 10 20 50 --out report",
    "ddim reproduce runs/cifar10 --reference uoft-cs/cifar10 --spacing quadratic --features inception",
)


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """The same command continues where it was stopped. As in the paper, predictions are clipped for σ̂ alone."""

    model: ModelName
    """A bundled name, a run or model folder, or a Hub id."""
    out: Path = Path("reproduction")
    """Folder to write: report.md, and a folder for each table and figure."""
    reference: str = ""
    """Training images; by default those that the model was trained on."""
    held_out: str = ""
    """Real images that the model was not trained on, for the floor and for table 2; by default the reference."""
    features: str = ""
    """Feature network of table 1; see ddim evaluate --help."""
    n: int = 50_000
    """Images for each cell of table 1."""
    reconstructed: int = 500
    """Images of table 2; the paper took 10,000."""
    steps: tuple[int, ...] = ()
    """Numbers of steps in every table and figure; by default those of 10 20 50 100 1000 that are at
    most T."""
    spacing: Spacing = "linear"
    """How the steps are spread over the times from T to 0; the paper took quadratic for CIFAR-10, else linear."""
    seed: int = 0
    """Seed of the images."""
    machine: Machine = Machine()


def main(args: Sequence[str]) -> None:
    o = parse(Reproduce, "reproduce", args)
    from ddim.evaluation.reproduction import reproduce
    from ddim.system.processes import processes

    workers = processes(o.machine.device)
    model = load_model(o.model, o.machine, workers.device, workers.is_main_process)
    report = reproduce(
        model, o.out, reference=o.reference, held_out=o.held_out, features=o.features, n=o.n,
        reconstructed=o.reconstructed, steps=o.steps, spacing=o.spacing, seed=o.seed,
        batch_size=o.machine.batch_size, name=o.model, progress=True, workers=workers,
    )  # fmt: skip
    if report:
        say(f"report: {report}")
