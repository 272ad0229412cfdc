"""ddim evaluate: the paper's table 1 for any model and data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from ddim.errors import InputError
from ddim.verbs import Eta, Spacing, parse

SHOWN, NEAREST = 8, 6  # samples in the figure of neighbours, and training pictures beside each


@dataclass(frozen=True)
class Evaluate:
    """FID over steps and η, with KID, precision, recall and time. Run again, it goes on where it was stopped.

    Started by torchrun or accelerate launch, on machines that share the folder, the sampling is shared out.
    """

    model: Positional[str]
    """A bundled name, a run or model folder, or a Hub id."""
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
    batch_size: int | None = None
    """Pictures at a time; by default what fits in memory."""
    out: Path | None = None
    """Folder to write; by default evaluations/ with the model's name."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps…; by default a GPU where there is one."""


def main(args: Sequence[str]) -> None:
    run(parse(Evaluate, "evaluate", args))


def run(o: Evaluate) -> dict | None:
    """Measure the grid into a folder. Returns the report, as table.json holds it; None to the processes that help."""
    from ddim import checkpoint, job, report
    from ddim.files import folder, replacing
    from ddim.paper import data_set
    from ddim.progress import progress
    from ddim.sampler import check_eta, grid

    if o.n < 2:
        raise InputError(f"n must be at least 2, for a covariance; got {o.n}")
    if o.batch_size is not None and o.batch_size < 1:
        raise InputError(f"batch size must be at least 1; got {o.batch_size}")
    workers = job.processes(o.device)
    model = checkpoint.load(o.model, workers.device)
    source = o.reference or model.info.get("data", "")
    published = data_set(source, model.info.get("preset", ""))
    spacing = o.spacing or ("quadratic" if published == "CIFAR-10" else "linear")
    cells = [(steps, eta) for steps in dict.fromkeys(o.steps) for eta in dict.fromkeys(o.eta)]
    for steps, eta in cells:
        check_eta(model.abar, grid(model, steps, spacing), eta)

    out = folder(o.out or Path("evaluations") / Path(o.model).name)
    judge = Judge(o, model, source, out) if workers.is_main_process else None
    settings = {"model": checkpoint.fingerprint(model), "spacing": spacing, "seed": o.seed, "clip": o.clip}
    size = job.begin(out / "evaluate.json", settings, o.batch_size, model, workers)
    jobs = {}
    for steps, eta in cells:
        store = job.Shards(folder(out / "cells" / f"S{steps}-eta{eta}"))
        times = grid(model, steps, spacing)
        jobs[steps, eta] = job.Job(store, o.n, size, times, eta, o.seed, o.clip or eta == "hat")
    shares = {cell: whole.share(workers) for cell, whole in jobs.items()}
    workers.wait_for_everyone()

    total = sum(sum(map(len, share)) * (len(jobs[cell].times) - 1) for cell, share in shares.items())
    with progress("sampling the grid", total, show=workers.is_main_process) as advance:
        for (steps, eta), whole in jobs.items():
            log = whole.store.out / f"seconds-{workers.process_index}.jsonl"
            for images, seconds in whole.work(model, shares[steps, eta], advance):
                job.note(log, images, seconds)
            workers.wait_for_everyone()
            if judge:
                advance(0, f"measuring S = {steps}, {report.name_of(eta)}")
                judge.measure(steps, eta, whole)
                advance(0, "")
    if not judge:
        return None
    found = judge.report(published, spacing)
    checkpoint.write_json(out / "table.json", found)
    with replacing(out / "table.md") as part:
        part.write_text(report.markdown(found))
    report.figure(found, out / "grid.png")
    show(found)
    print(f"\ntable: {out / 'table.md'}, {out / 'table.json'}\nfigures: {out / 'grid.png'}", end="")
    print(f", {out / 'neighbours.png'}" if judge.draw_neighbours(jobs[min(jobs, key=judge.plainest)]) else "")
    print(f"pictures, to go on with or to measure again: {out / 'cells'}")
    return found


class Judge:
    """The reference and its feature network, and what they say of each cell."""

    def __init__(self, o: Evaluate, model, source: str, out: Path):
        import torch

        from ddim import data, features, metrics
        from ddim.progress import progress

        self.o, self.model, self.source, self.out, self.cells = o, model, source, out, []
        small = {(1, 8, 8): "digits-small", (3, 32, 32): "cifar10-small"}
        self.network = features.find(o.features or small.get(model.shape, "inception"), model.device)
        width = self.network(torch.zeros(1, *model.shape, dtype=torch.uint8)).shape[1]
        self.width, self.pictures = width, None
        if source.endswith(".npz"):
            self.reference = metrics.read(Path(source).expanduser())
            if len(self.reference.mu) != width:
                raise InputError(
                    f"{source}: statistics {len(self.reference.mu)} wide, but features {self.network.name} are {width} "
                    "wide: name the network that they were made with by --features"
                )
        else:
            self.pictures = data.load(real(source, model))
            with progress("reference", len(self.pictures), "picture") as advance:
                self.reference = metrics.statistics(self.network, self.pictures, data.cache_folder(), advance=advance)
        for what, n in (("reference", self.reference.n), ("n", o.n)):
            if 0 < n < width:
                print(f"warning: {what} has {n} pictures, fewer than the {width} dimensions of {self.network.name}: FID "
                      "leans on a singular covariance")  # fmt: skip
        self.floor = self.measure_floor()

    def measure_floor(self) -> dict | None:
        """FID of real pictures against the reference: what a perfect model would reach at this n."""
        import torch

        from ddim import data, metrics

        if self.o.held_out:
            held = data.load(real(self.o.held_out, self.model))
            if not isinstance(held, torch.Tensor):
                held = torch.stack([held[i] for i in range(min(self.o.n, len(held)))])
            found = metrics.statistics(self.network, held[: self.o.n], data.cache_folder())
            n, against, what = found.n, self.reference, f"held out, {self.o.held_out}, against the reference"
        elif self.reference.features is None or len(self.reference.features) < 4:
            return None
        else:
            known = self.reference.features
            n = min(self.o.n, len(known) // 2)
            order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))
            found, against = metrics.Statistics.of(known[order[:n]]), metrics.Statistics.of(known[order[n:]])
            what = f"of the reference against its other {len(known) - n}; name --held-out for a floor at full size"
        return {"fid": metrics.fid(against, found), "n": n, "what": what}

    def measure(self, steps: int, eta: float | str, whole) -> None:
        """Add a cell."""
        from ddim import job, metrics

        pictures = whole.pictures()
        found = metrics.statistics(self.network, pictures, whole.store.out)
        kid = metrics.kid(self.reference, found) or (None, None)
        precision, recall = metrics.precision_recall(self.reference, found) or (None, None)
        self.cells.append({
            "steps": steps,
            "eta": eta,
            "fid": metrics.fid(self.reference, found),
            "kid": kid[0],
            "kid_deviation": kid[1],
            "precision": precision,
            "recall": recall,
            "evaluations": len(whole.times) - 1,
            "seconds_an_image": job.seconds_an_image(sorted(whole.store.out.glob("seconds-*.jsonl"))),
            "pictures": metrics.content(pictures),
        })  # fmt: skip

    def report(self, published: str | None, spacing: str) -> dict:
        from importlib.metadata import version

        from ddim import checkpoint

        o, model = self.o, self.model
        averaged = "averaged (EMA) weights" if "preset" in model.info else "weights as the file holds them"
        return {
            "model": {"source": o.model, "fingerprint": checkpoint.fingerprint(model), "weights": averaged},
            "features": {"name": self.network.name, "hash": self.network.hash, "width": self.width},
            "reference": {"source": self.source, "n": self.reference.n},
            "floor": self.floor,
            "n": o.n,
            "seed": o.seed,
            "spacing": spacing,
            "steps": list(dict.fromkeys(o.steps)),
            "eta": list(dict.fromkeys(o.eta)),
            "paper": published,
            "torchmetrics": version("torchmetrics"),
            "device": str(model.device),
            "cells": self.cells,
        }

    def plainest(self, cell: tuple) -> tuple:
        """Orders cells: the least noise first, then the most steps."""
        steps, eta = cell
        return (float("inf") if eta == "hat" else eta, -steps)

    def draw_neighbours(self, whole) -> bool:
        """Samples of a cell, each before its nearest training pictures: copies would tell of memorisation."""
        import torch

        from ddim import metrics, plot

        if not isinstance(self.pictures, torch.Tensor):
            return False
        samples = whole.pictures(SHOWN)
        index, distance = metrics.neighbours(samples, self.pictures, NEAREST)
        rows = [torch.cat([sample[None], self.pictures[near]]) for sample, near in zip(samples, index, strict=True)]
        labels = [f"sample {k}; nearest at {d[0]:.1f}" for k, d in enumerate(distance.tolist())]
        plot.save(plot.rows(rows, labels), self.out / "neighbours.png")
        return True


def real(source: str, model):
    """Real pictures in a model's shape. Raises InputError where they are smaller: enlarged ones are others."""
    from ddim import data

    if not source:
        raise InputError("the model does not tell what it was trained on: name the training pictures by --reference")
    channels, size, _ = model.shape
    pictures = data.find(source, size, channels)
    with pictures.open(0) as first:
        if min(first.size) < size and source != model.info.get("data"):
            width, height = first.size
            raise InputError(f"{source}: pictures of {width}×{height} are smaller than the model's {size}×{size}")
    return pictures


def show(found: dict) -> None:
    """The report in the terminal."""
    from rich.console import Console
    from rich.table import Table

    from ddim import report

    console = Console()
    for rows in (report.grid(found), report.details(found)):
        table = Table(*rows[0])
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    for line in report.facts(found):
        print(line)
