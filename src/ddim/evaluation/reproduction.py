"""The paper's tables 1 and 2 and figures 3 to 6 for one model, in one report."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ddim.diffusion.model import Model
from ddim.diffusion.sampling import generate
from ddim.diffusion.schedule import grid
from ddim.errors import InputError
from ddim.evaluation import published, report
from ddim.evaluation.fid_grid import STEPS, evaluate
from ddim.evaluation.reconstruction import reconstruct
from ddim.evaluation.step_consistency import consistency
from ddim.jobs.bars import bar
from ddim.jobs.latent_figures import interpolation_figure
from ddim.plots import sheets
from ddim.system.files import replacing
from ddim.system.processes import processes

SHOWN = 10  # images in a row of figure 3


def reproduce(
    model: Model,
    out: str | Path,
    reference: str = "",
    held_out: str = "",
    features: str = "",
    n: int = 50_000,
    reconstructed: int = 500,
    steps: Sequence[int] = (),
    spacing: str = "linear",
    seed: int = 0,
    batch_size: int | None = None,
    name: str = "",
    progress: bool = False,
    workers=None,
) -> Path | None:
    """Write out/report.md, and beside it a folder for each table and figure. Called again, it continues.

    steps: the columns of table 1 and of table 2, the rows of figure 5; figure 3 has their least and the one nearest to
    100, figure 6 the one nearest to 50. By default the paper's, up to the model's number of levels.
    spacing: the paper took quadratic for CIFAR-10, else linear.
    As in the paper, x̂_0 is clipped for σ̂ and for nothing else. The rest as for `ddim.evaluate`.
    Returns the report's place; None in the processes that help. Raises InputError.
    """
    if reconstructed < 1:
        raise InputError(f"reconstructed must be at least 1; got {reconstructed}")
    out, workers = Path(out), workers or processes(str(model.device))
    steps = sorted(set(steps or [S for S in STEPS if S <= model.T]))
    if len(steps) < 2:
        given = ", ".join(map(str, steps)) or f"none that the model's {model.T} levels allow"
        raise InputError(f"reproduce compares two numbers of steps or more; got {given}: name them by --steps")
    common = {"reference": reference, "held_out": held_out, "features": features, "n": n, "spacing": spacing}
    common |= {"seed": seed, "batch_size": batch_size, "name": name, "progress": progress, "workers": workers}
    smooth = evaluate(model, out / "table1", steps=steps, clip=False, eta=(0.0, 0.2, 0.5, 1.0), **common)
    rough = evaluate(model, out / "table1-hat", steps=steps, clip=True, eta=("hat",), **common)
    if smooth is None or rough is None:  # one of several processes, whose help is no longer needed
        return None
    table = {**smooth, "eta": [*smooth["eta"], "hat"], "cells": [*smooth["cells"], *rough["cells"]]}
    report.figure(table, out / "figure4.png")
    few, many = steps[0], min(steps, key=lambda S: abs(S - 100))
    rows = [(S, eta) for S in dict.fromkeys((few, many)) for eta in (0.0, 1.0, "hat")]
    labels = [f"S = {S}, {report.name_of(eta)}" for S, eta in rows]
    sheets.save(sheets.rows(figure_3(model, rows, spacing, seed, progress), labels), out / "figure3.png")
    source, errors = str(held_out or table["reference"]["source"]), None
    if not source.endswith(".npz"):
        errors = reconstruct(
            model, [source], out / "table2", steps, reconstructed, spacing, batch_size=batch_size, progress=progress
        )
    same = consistency(
        model, out / "figure5", steps, spacing=spacing, seed=seed, clip=False, batch_size=batch_size, progress=progress
    )
    middle = min(steps, key=lambda S: abs(S - 50))
    interpolation_figure(
        model, out / "figure6", seeds=range(seed, seed + 4), steps=middle, spacing=spacing, clip=False,
        batch_size=batch_size, progress=progress,
    )  # fmt: skip
    with replacing(out / "report.md") as part:
        part.write_text(text(table, errors, same, (few, many), source), encoding="utf-8")
    return out / "report.md"


@torch.no_grad()
def figure_3(model: Model, rows: Sequence[tuple], spacing: str, seed: int, progress: bool) -> list[Tensor]:
    """Images 0 … of a seed by each (S, η): the same starting noise in every row."""
    out = []
    with bar("figure 3", sum(S for S, _ in rows), progress) as advance:
        for S, eta in rows:
            times = grid(model.abar, S, spacing)
            for moment in generate(model, range(SHOWN), times, eta, seed, clip=eta == "hat"):
                advance()
            out.append(moment.x.cpu())
    return out


def text(table: dict, errors: dict | None, same: dict, shown: tuple[int, int], source: str) -> str:
    """The report in Markdown, from what the tables and figures found."""
    parts = [f"# The paper's tables and figures, for {Path(table['model']['source']).name}"]
    parts += ["## Table 1: FID by S and η", report.table(report.grid(table)), report.bullets(report.facts(table))]
    parts += ["Here x̂_0 is clipped for σ̂ alone, as in the paper."]
    parts += ["Every cell with KID, precision and recall: [η](table1/table.md), [σ̂](table1-hat/table.md)."]
    if errors:
        every = {row["steps"]: row["mse"] for row in errors["rows"]}
        rows = [["S =", *map(str, every)], ["squared error a dimension", *(f"{mse:.2g}" for mse in every.values())]]
        if errors["paper"]:
            printed = [f"{published.RECONSTRUCTION[S]:g}" if S in published.RECONSTRUCTION else "" for S in every]
            rows.append([f"paper, {errors['paper']}", *printed])
        title = f"## Table 2: reconstruction of {errors['n']} images of {source}, in [0, 1]"
        parts += [title, report.table(rows), "![reconstructions](table2/reconstruct.png)"]
    parts += [f"## Figure 3: samples in {shown[0]} and {shown[1]} steps", "![figure 3](figure3.png)"]
    parts += ["## Figure 4: seconds over S (right)", "![figure 4](figure4.png)"]
    rows = [["S =", *(str(row["steps"]) for row in same["rows"])]]
    rows += [[f"distance to S = {same['longest']}", *(f"{row['distance']:.4f}" for row in same["rows"])]]
    parts += ["## Figure 5: the same x_T in different numbers of steps, η = 0", report.table(rows)]
    parts += [f"Unrelated images are {same['unrelated']:.4f} apart.", "![figure 5](figure5/consistency.png)"]
    parts += ["## Figure 6: interpolation along the sphere, η = 0", "![figure 6](figure6/interpolate.png)"]
    return "\n\n".join(parts) + "\n"
