"""ddim evaluate: the paper's table 1 for any model and data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddim.cli.commands import Eta, OnModel, Spacing, opened, parse
from ddim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Evaluate(OnModel):
    """FID over steps and η, with KID, precision, recall and time. Run again, it goes on where it was stopped.

    Started by torchrun or accelerate launch, on machines that share the folder, the sampling is shared out.
    """

    reference: str = ""
    """Training pictures: `digits`, a folder, a .parquet file, a Hub id, or an .npz of mu and sigma; by default those
    that the model was trained on."""
    held_out: str = ""
    """Real pictures that the model was not trained on, for the floor; by default the floor is between two halves of
    the reference."""
    steps: tuple[int, ...] = (10, 20, 50, 100, 1000)
    """Network evaluations a picture, S: the columns."""
    eta: tuple[Eta, ...] = (0.0, 0.2, 0.5, 1.0, "hat")
    """Noise in each step: the rows."""
    n: int = 50_000
    """Pictures a cell."""
    features: str = ""
    """digits-small, cifar10-small, inception, or a file of a feature network; by default the small one that fits the
    pictures, else inception."""
    spacing: Spacing | None = None
    """How the steps are spread over the noise levels; by default as in the paper: quadratic for CIFAR-10, else
    linear."""
    seed: int = 0
    """Of the pictures."""
    clip: bool = False
    """Clamp each predicted picture to [-1, 1] on the way for every η; σ̂ always does."""
    compile: bool = False
    """Compile the network first: a minute of waiting, then faster steps on a GPU; on a CPU it gains little."""
    out: Path | None = None
    """Folder to write; by default evaluations/ with the model's name."""


def main(args: Sequence[str]) -> None:
    run(parse(Evaluate, "evaluate", args))


def run(o: Evaluate) -> dict | None:
    """Measure the grid into a folder. Returns the report, as table.json holds it; None to the processes that help."""
    import torch

    from ddim.checkpoints import folders as checkpoint
    from ddim.diffusion.noise import check_seed
    from ddim.diffusion.sampling import check_eta, grid
    from ddim.evaluation import report
    from ddim.evaluation.paper import data_set
    from ddim.evaluation.reference import Judge
    from ddim.jobs import sampling as job
    from ddim.system.files import folder, replacing
    from ddim.system.processes import together
    from ddim.system.progress import progress

    if o.n < 2:
        raise InputError(f"n must be at least 2, for a covariance; got {o.n}")
    workers = job.processes(o.device)
    model = opened(o, workers.device, tell=workers.is_main_process, compile=o.compile)
    source = o.reference or model.info.get("data", "")
    published = data_set(source, model.info.get("preset", ""))
    spacing = o.spacing or ("quadratic" if published == "CIFAR-10" else "linear")
    cells = [(steps, eta) for steps in dict.fromkeys(o.steps) for eta in dict.fromkeys(o.eta)]
    for steps, eta in cells:
        check_eta(model.abar, grid(model, steps, spacing), eta)
    check_seed(o.seed)

    out = o.out or Path("evaluations") / Path(o.model).name
    judge = Judge(model, source, o.features, o.n, o.held_out) if workers.is_main_process else None
    fingerprint = checkpoint.fingerprint(model)
    precision = model.info["precision"]
    settings = {"model": fingerprint, "precision": precision, "spacing": spacing, "seed": o.seed, "clip": o.clip}
    size = job.begin(out / "evaluate.json", settings, o.batch_size, model, workers)
    jobs = {}
    for steps, eta in cells:
        store = job.Shards(folder(out / "cells" / f"S{steps}-eta{eta}"))
        jobs[steps, eta] = job.Job(
            store, o.n, size, grid(model, steps, spacing), eta, o.seed, o.clip or eta == "hat"
        )  # fmt: skip
    shares = {cell: whole.share(workers) for cell, whole in jobs.items()}
    workers.wait_for_everyone()

    with torch.no_grad():  # the first evaluation of a process is slow, and no cell's to pay for
        model(torch.zeros(size, *model.shape, device=model.device), model.T)
    measured = []
    total = sum(sum(map(len, share)) * (len(jobs[cell].times) - 1) for cell, share in shares.items())
    lost = lambda: f"; the same command goes on with what was made, in {out}"  # noqa: E731
    with together(lost), progress("sampling the grid", total, show=workers.is_main_process) as advance:
        for (steps, eta), whole in jobs.items():
            log = whole.store.out / f"seconds-{workers.process_index}.jsonl"
            for images, seconds in whole.work(model, shares[steps, eta], advance):
                job.note(log, images, seconds)
            workers.wait_for_everyone()
            if judge:
                advance(0, f"measuring S = {steps}, {report.name_of(eta)}")
                measured.append({"steps": steps, "eta": eta, **judge.measure(whole)})
                advance(0, "")
    if not judge:
        return None
    averaged = "averaged (EMA) weights" if "preset" in model.info else "weights as the file holds them"
    found = {
        "model": {"source": o.model, "fingerprint": fingerprint, "weights": averaged},
        **judge.facts(),
        **{"n": o.n, "seed": o.seed, "spacing": spacing, "paper": published},
        **{"device": str(model.device), "arithmetic": precision},
        **{"steps": list(dict.fromkeys(o.steps)), "eta": list(dict.fromkeys(o.eta)), "cells": measured},
    }
    checkpoint.write_json(out / "table.json", found)
    # The samples with the least noise and the most steps are shown before their nearest training pictures.
    plainest = min(jobs, key=lambda cell: (float("inf") if cell[1] == "hat" else cell[1], -cell[0]))
    figures = [report.figure(found, out / "grid.png")]
    figures += [out / "neighbours.png"] if judge.neighbours(jobs[plainest], out / "neighbours.png") else []
    with replacing(out / "table.md") as part:
        part.write_text(report.markdown(found, figures))
    show(found)
    print(f"\ntable: {out / 'table.md'}, {out / 'table.json'}\nfigures: {', '.join(map(str, figures))}")
    print(f"pictures, to go on with or to measure again: {out / 'cells'}")
    return found


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
        print(line)
