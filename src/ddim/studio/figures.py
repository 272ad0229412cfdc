"""The tab of the paper's figures for the model: the table over S and η, and one noise in different numbers of steps."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import torch

from ddim.diffusion.course import course
from ddim.diffusion.model import Model
from ddim.diffusion.sampling import chunks, default_batch_size, generate
from ddim.errors import InputError
from ddim.evaluation.fid_grid import evaluate
from ddim.evaluation.report import facts, name_of
from ddim.evaluation.step_consistency import distance
from ddim.plots import sheets
from ddim.studio import render
from ddim.studio.recipes import Origin, Recipe, arguments
from ddim.studio.settings import Studio
from ddim.studio.work import followed, html, steps_of, whole, work

ETAS = {"η = 0": 0.0, "η = 0.2": 0.2, "η = 0.5": 0.5, "η = 1": 1.0, "σ̂": "hat"}
ROW = 8  # images of a number of steps


def folder_of(studio: Studio, model: Model, name: str) -> Path:
    """Where a model's table is kept, to go on with."""
    return studio.out / "tables" / f"{Path(name).name}-{model.fingerprint}-{model.facts.precision}"


def reference_of(studio: Studio, model: Model) -> str:
    """The real images, by name. Raises InputError where they are not here."""
    studio.images(model)
    return studio.data or model.facts.data or ""


def table_recipe(origin: Origin, reference: str, steps: list[int], etas: list, n: int) -> Recipe:
    """The lines that measure the whole table."""
    how = {"reference": reference, "steps": steps, "eta": etas, "n": n}
    command = origin.command("evaluate", **how, out="table")
    return Recipe(command, origin.python() + f'table = ddim.evaluate(model, "table"{arguments(how)})\n')


def grid(cells: dict, steps: list[int], etas: list, now: tuple | None) -> str:
    """The table so far; now: the cell that is being measured."""

    def text(cell: tuple) -> str:
        return f"{cells[cell]['fid']:.2f}" if cell in cells else "…" if cell == now else ""

    rows = [[name_of(eta), *(text((S, eta)) for S in steps)] for eta in etas]
    return "<h3>FID</h3>" + render.table(rows, ["", *(f"S = {S}" for S in steps)])


def table(studio: Studio, page, name: str, text: str, chosen: list[str], n: Any) -> Iterator[dict]:
    """Measure cell after cell; what was measured before is not measured again."""
    origin, model = studio.origin(name), studio.model(name)
    steps, etas = steps_of(text), [ETAS[one] for one in ETAS if one in chosen]
    if not etas:
        raise InputError("choose at least one η")
    n, reference, cells = whole(n, "the number of images", 2, 50_000), reference_of(studio, model), {}
    out = folder_of(studio, model, name)
    yield {page.note: render.note("Beginning…", 0), page.lines: "", page.facts: ""}
    every = [(S, eta) for S in steps for eta in etas]
    for k, (S, eta) in enumerate(every):
        yield {page.table: grid(cells, steps, etas, (S, eta))}

        def measured(report, S=S, eta=eta):
            return evaluate(model, out, reference, steps=[S], eta=[eta], n=n, name=name, progress=report)

        def show(what: str, part: float, k=k, S=S, eta=eta) -> dict:
            return {page.note: render.note(f"S = {S}, {name_of(eta)}: {what}", (k + part) / len(every))}

        found = yield from followed(measured, show)
        cells[S, eta] = found["cells"][0]
    words = "".join(f"<li>{render.escaped(line)}</li>" for line in facts({**found, "cells": list(cells.values())}))
    yield {
        page.table: grid(cells, steps, etas, None), page.facts: f'<ul class="words">{words}</ul>',
        page.note: render.note("Lower is nearer to the real images."),
        page.lines: render.recipe(table_recipe(origin, reference, steps, etas, n)),
    }  # fmt: skip


def row_recipe(origin: Origin, steps: list[int]) -> Recipe:
    """The lines that draw the figure."""
    how = {"steps": steps, "n": ROW}
    command = origin.command("consistency", exact=True, **how)
    return Recipe(command, origin.python() + f'ddim.consistency(model, "consistency"{arguments(how)})\n')


def row(studio: Studio, page, name: str, text: str) -> Iterator[dict]:
    """One noise in different numbers of steps, row after row; then how far apart the images are."""
    origin, model = studio.origin(name, exact=True), studio.model(name, exact=True)
    steps = sorted(steps_of(text))
    if len(steps) < 2:
        raise InputError(f"compare two numbers of steps or more; got {steps[0]} alone")
    courses = {S: course(model, "ddim", S) for S in steps}
    total, done, made = sum(len(path) - 1 for path, _ in courses.values()), 0, {}
    yield {page.note: render.note("Beginning…", 0), page.row_lines: "", page.distances: ""}
    for S, (path, solver) in courses.items():
        parts = []
        for indices in chunks(ROW, default_batch_size(model)):
            for moment in generate(model, indices, path, solver=solver):
                done += len(indices) / ROW
                if round(done) % 10 == 0:
                    yield {page.note: render.note(f"S = {S}", done / total)}
            parts.append(moment.x.clamp(-1, 1).float().cpu())
        made[S] = torch.cat(parts)
        yield {page.rows: render.rows([(f"S = {S}", images) for S, images in made.items()])}
    longest = made[steps[-1]]
    rows = [(S, f"{distance(made[S], longest):.4f}") for S in steps[:-1]]
    rows.append(("unrelated images", f"{distance(longest, longest.roll(1, 0)):.4f}"))
    figure = render.png(sheets.rows([made[S] for S in steps], [f"S = {S}" for S in steps]))
    link = f'<p class="links">{render.download(figure, "consistency.png", "Download the figure")}</p>'
    yield {
        page.note: render.note("Each column starts from the same noise."),
        page.distances: render.table(rows, ["S", f"distance to S = {steps[-1]}"]) + link,
        page.row_lines: render.recipe(row_recipe(origin, steps)),
    }  # fmt: skip


def tab(studio: Studio, model: gr.Dropdown) -> None:
    """Build the tab."""
    page = SimpleNamespace()
    with gr.Row(equal_height=False, elem_id="row"):
        with gr.Column(scale=1, min_width=280, elem_classes="controls"):
            html("<h3>Consistency: one noise, different S</h3>")
            text = gr.Textbox("10 20 50 100", label="Steps")
            with gr.Row(elem_classes="buttons"):
                draw = gr.Button("Draw", variant="primary", min_width=90)
                end = gr.Button("Stop", min_width=70)
        with gr.Column(scale=3, min_width=300):
            note = html(render.note("The paper's figure 5: with η = 0, the noise decides the image."))
            with gr.Row(equal_height=False, elem_classes="sheets"):
                page.rows = html(elem_id="consistency", min_width=280)
                page.distances = html(min_width=200)
            page.row_lines = html(js_on_load=render.COPY)
    page_of_row = SimpleNamespace(**vars(page), note=note)
    work(
        draw.click, note, lambda *fields: row(studio, page_of_row, *fields), [model, text],
        [page.rows, page.distances, page.row_lines], end,
    )  # fmt: skip
    with gr.Row(equal_height=False, elem_id="table"):
        with gr.Column(scale=1, min_width=280, elem_classes="controls"):
            html("<h3>Table 1: FID over S and η</h3>")
            steps = gr.Textbox("10 20 50", label="Steps")
            etas = gr.CheckboxGroup([*ETAS], value=["η = 0", "η = 1"], label="Noise in each step")
            n = gr.Number(200, label="Images a cell", info="the paper took 50,000", precision=0, minimum=2)
            with gr.Row(elem_classes="buttons"):
                go = gr.Button("Measure", variant="primary", min_width=90)
                stop = gr.Button("Stop", min_width=70)
        with gr.Column(scale=3, min_width=300):
            page.note = html(render.note("Cells fill in as they are measured; what was stopped goes on from there."))
            page.table = html(elem_id="fid")
            page.facts = html()
            page.lines = html(js_on_load=render.COPY)
    work(
        go.click, page.note, lambda *fields: table(studio, page, *fields), [model, steps, etas, n],
        [page.table, page.facts, page.lines], stop,
    )  # fmt: skip
