"""The paper's table 1 for any model and data: FID over S and η, with KID, precision, recall and time."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ddim.diffusion.clipping import Clip
from ddim.diffusion.course import course
from ddim.diffusion.guidance import Guidance, Label, kept, plain
from ddim.diffusion.model import Model
from ddim.diffusion.noise import check_seed
from ddim.diffusion.schedule import Time
from ddim.diffusion.solvers import SDE, TUNED, Implicit, Solver, check_eta, clip_with, with_noise
from ddim.errors import InputError, check_whole, listed
from ddim.evaluation import report
from ddim.evaluation.records import Record
from ddim.evaluation.reference import Reference, measure, neighbours_figure
from ddim.evaluation.reference import reference as reference_of
from ddim.images.sources import check_outside
from ddim.jobs.bars import Progress, bar
from ddim.jobs.continuing import continuing
from ddim.jobs.cost import branches_of, calls_of, warm_up
from ddim.jobs.image_files import Shards
from ddim.jobs.sampling import Job, check_named, opened, said
from ddim.jobs.timings import note
from ddim.system.files import folder, replacing
from ddim.system.json import write_json
from ddim.system.processes import processes

STEPS = (10, 20, 50, 100, 1000)
ETA = (0.0, 0.2, 0.5, 1.0, "hat")

Cell = tuple[int, float | str]  # S and η


@torch.no_grad()
def evaluate(
    model: Model,
    out: str | Path,
    reference: str = "",
    held_out: str = "",
    steps: Sequence[int] = STEPS,
    eta: Sequence[float | str] = ETA,
    n: int = 50_000,
    features: str = "",
    spacing: str = "linear",
    seed: int = 0,
    clip: Clip | bool | None = None,
    solver: str | Solver = "ddim",
    batch_size: int | None = None,
    skip_broken: bool = False,
    name: str = "",
    progress: Progress = False,
    workers=None,
    label: Label | None = None,
    guidance: float | Guidance = 1.0,
) -> Record | None:
    """Measure n images of every S and η against real ones, into the folder `out`; called again, it continues.

    reference: training images as `--data` names them, or an .npz of statistics; by default those that the model was
    trained on.  held_out: real images for the floor.  features: see `ddim.features.find`; by default the small network
    that fits the images, else inception.  solver: one without noise is for η = 0.  clip: for every cell, by default as
    in `ddim.sample`; label and guidance likewise.  name: what the report calls the model.  progress: `ddim.jobs.bars`.
    Returns the report as table.json holds it; None in the processes that help. Raises InputError.
    """
    courses, label = checked(model, out, steps, eta, n, spacing, seed, solver), plain(model, label, n, guidance)
    cells = [(S, e) for S in courses for e in dict.fromkeys(eta)]
    out, workers, measured = Path(out), workers or processes(str(model.device)), []
    main, clip = workers.is_main_process, clip_with(next(iter(courses.values()))[1], clip)
    check_outside(out, source := reference or model.facts.data or "", held_out)
    against = reference_of(model, source, features, n, held_out, skip_broken, progress) if main else None
    settings = model.identity | {"seed": seed}
    settings |= {"clip": said(model, clip), "label": label, "guidance": kept(guidance)} | way_of(courses, spacing)
    most = max(calls_of(how, times) for times, how in courses.values())
    with opened(out / "evaluate.json", settings, batch_size, model, workers, n, most) as size:
        jobs = {(S, e): job_of(out, n, size, *courses[S], S, e, settings, clip) for S, e in cells}
        shares = {cell: job.share(model, workers) for cell, job in jobs.items()}
        workers.wait_for_everyone()
        warm_up(model, size, main * sum(len(shares[c]) * calls_of(job.solver, job.times) for c, job in jobs.items()))
        total = sum(sum(map(len, shares[cell])) * (len(job.times) - 1) for cell, job in jobs.items())
        with continuing(out), bar("sampling the grid", total, main and progress) as advance:
            for cell, job in jobs.items():
                for indices in shares[cell]:
                    start = time.perf_counter()
                    for moment in job.walk(model, indices):
                        advance(len(indices))
                    images, seconds = moment.x.cpu(), time.perf_counter() - start
                    job.write(indices, images)
                    note(job.files.out / f"seconds-{workers.process_index}.jsonl", indices, seconds)
                workers.wait_for_everyone()
                if against:
                    advance(0, f"measuring S = {cell[0]}, {report.name_of(cell[1])}")
                    cost = {"evaluations": branches_of(guidance, job.solver, job.times, model.abar)}
                    measured.append({"steps": cell[0], "eta": cell[1], **cost, **measure(against, job, model.device)})
                    advance(0, "")
        return against and written(record(model, against, measured, n, settings, cells, name), against, jobs, out)


def way_of(courses: dict[int, tuple[list[Time], Solver]], spacing: str) -> dict:
    """The solver and the spacing of a report, as it keeps them; the times of a tuned solver are its own."""
    name = next(iter(courses.values()))[1].name
    if name != TUNED:
        return {"solver": name, "spacing": spacing}
    return {"solver": name, "spacing": "its own", "times": {str(S): path for S, (path, _) in courses.items()}}


def job_of(out: Path, n: int, size: int, times, solver, S: int, eta: float | str, settings: dict, clip) -> Job:
    """The job that makes the images of a cell."""
    how = {"seed": settings["seed"], "label": settings["label"], "guidance": settings["guidance"]}
    return Job(cell_files(out, S, eta), n, size, times, eta, clip=clip, solver=solver, **how)


def cell_files(out: Path, S: int, eta: float | str) -> Shards:
    """Where the images of a cell are kept."""
    return Shards(folder(out / "cells" / f"S{S}-eta{eta}"))


def checked(
    model: Model, out, steps, eta, n: int, spacing: str, seed: int, solver
) -> dict[int, tuple[list[Time], Solver]]:
    """The time grid and the solver of each S. Raises InputError where a cell cannot be measured."""
    check_named(model, out), check_whole("n", n, 2), check_seed(seed)
    steps, eta = listed("steps", steps), listed("eta", eta)
    courses = {S: course(model, solver, S, spacing) for S in dict.fromkeys(steps)}
    if not courses or not eta:
        raise InputError("evaluate needs at least one number of steps and one eta")
    if any(isinstance(how, Implicit) for _, how in courses.values()):
        raise InputError("solver implicit is for encoding; choose another to evaluate samples")
    if any(how is SDE for _, how in courses.values()) and set(eta) != {1}:
        raise InputError(f"solver {SDE.name} has eta 1: pass eta 1 alone, or choose dpm++2m")
    for e in eta:
        for times, how in courses.values():
            with_noise(how, e, "small", iter(()))
            check_eta(model.abar, times, e)
    return courses


def record(model: Model, against: Reference, measured: list[dict], n: int, settings: dict, cells, name: str) -> dict:
    """The report as table.json holds it."""
    averaged = model.facts.averaged or model.facts.preset is not None
    comparable = against.features.name == "inception" and n >= report.PUBLISHED_N and settings["label"] is None
    return {
        "model": {
            "source": name or model.facts.source or "a model in memory",
            "fingerprint": model.fingerprint,
            "weights": "averaged (EMA) weights" if averaged else "weights as the file holds them",
        },
        **against.facts(),
        **{"n": n, "seed": settings["seed"], "spacing": settings["spacing"], "solver": settings["solver"]},
        **{"label": settings["label"], "guidance": settings["guidance"]},
        **{"clip": settings["clip"], "paper": against.data_set if comparable else None},
        **{"device": str(model.device), "arithmetic": model.facts.precision},
        **{"steps": list(dict.fromkeys(S for S, _ in cells)), "eta": list(dict.fromkeys(e for _, e in cells))},
        "cells": measured,
    }


def written(found: dict, against: Reference, jobs: dict[Cell, Job], out: Path) -> Record:
    """Write the tables and figures of a report; returns it with their places."""
    write_json(out / "table.json", found)
    # The samples with the least noise and the most steps are shown before their nearest training images.
    plainest = min(jobs, key=lambda cell: (float("inf") if cell[1] == "hat" else cell[1], -cell[0]))
    figures = [report.figure(found, out / "grid.png")]
    figures += neighbours_figure(against, jobs[plainest], out / "neighbours.png")
    with replacing(out / "table.md") as part:
        part.write_text(report.markdown(found, figures), encoding="utf-8")
    return Record(found, figures=[str(figure) for figure in figures])
