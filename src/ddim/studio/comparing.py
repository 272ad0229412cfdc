"""Rows over steps, η or solvers, all from the same noise."""

import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gradio as gr
import torch

from ddim.diffusion.model import Model
from ddim.diffusion.solvers import SOLVERS, TUNED
from ddim.errors import InputError, choose
from ddim.studio import render
from ddim.studio.recipes import Origin, Recipe, arguments, said
from ddim.studio.settings import Studio
from ddim.studio.ways import Way
from ddim.studio.work import LIVE, html, steps_of, work

SHOWN = 8  # images in a row
OVER = {"steps": "5 10 20 50", "eta": "0 0.2 0.5 1", "solver": "ddim unipc heun dpm++2m"}
NAMES = {"steps": "S", "eta": "η", "solver": ""}


def values_of(over: str, text: str) -> list[Any]:
    """What the rows differ in. Raises InputError."""
    words = str(text).replace(",", " ").split()
    if over == "steps":
        return steps_of(text)
    if over == "solver":
        for word in words:
            choose("solver", word, {**SOLVERS, TUNED: None})
        found: list[Any] = words
    else:
        try:
            found = [float(word) for word in words]
        except ValueError:
            raise InputError(f"η is a number, such as 0 0.5 1; got {text!r:.60}") from None
    if not 0 < len(found) <= 12:
        raise InputError(f"compare one to twelve values; got {len(found)}")
    return list(dict.fromkeys(found))


def ways(model: Model, way: Way, over: str, text: str) -> list[tuple[str, Way]]:
    """The rows: their labels, and how each is sampled."""
    found = []
    for value in values_of(over, text):
        if over == "eta":  # of one solver: DDIM's formula is what η is in
            row = replace(way, n=SHOWN, eta=value, solver=way.solver or "ddim", variance="small")
        else:
            row = replace(way, n=SHOWN, **{over: value})
        if over == "solver" and value == TUNED:
            row = replace(row, spacing=None)
        row.course(model)  # refused before anything is drawn
        found.append((f"{NAMES[over]} = {value:g}" if NAMES[over] else str(value), row))
    return found


def recipe(origin: Origin, over: str, rows: list[tuple[str, Way]]) -> Recipe:
    """A command a row, and a program for all."""
    commands, calls = [], []
    for k, (_, way) in enumerate(rows):
        words = said(way.said())
        commands.append(origin.command("sample", **words, out=f"compare/{k}"))
        calls.append(f"    ddim.sample(model{arguments(words)}),")
    labels = ", ".join(f'"{label}"' for label, _ in rows)
    python = origin.python() + "rows = [\n" + "\n".join(calls) + "\n]\n"
    python += f'ddim.plots.save(ddim.plots.rows(rows, [{labels}]), "compare.png")'
    return Recipe("\n".join(commands), python)


def compare(studio: Studio, page, name: str, over: str, text: str, *fields: Any) -> Iterator[dict]:
    """Draw the rows, one after the other."""
    origin, model = studio.origin(name), studio.model(name)
    over = {"steps": "steps", "η": "eta", "solvers": "solver"}[over]
    rows, drawn, last = ways(model, Way.of(model, *fields), over, text), [], 0.0
    yield {page.note: render.note("Beginning…", 0), page.lines: ""}
    for k, (label, way) in enumerate(rows):
        path, solver, *_ = way.course(model)
        made, S = [], len(path) - 1
        for _, walk in way.walks(model, path, solver):
            for i, moment in enumerate(walk, 1):
                if time.monotonic() - last > LIVE:
                    last = time.monotonic()
                    yield {page.note: render.note(f"{label}: step {i} of {S}", (k + i / S) / len(rows))}
            made.append(moment.x.clamp(-1, 1).cpu())
        drawn.append((label, torch.cat(made)))
        yield {page.rows: render.rows(drawn), page.note: render.note(label, (k + 1) / len(rows))}
    yield {page.note: render.note(SAME), page.lines: render.recipe(recipe(origin, over, rows))}


SAME = "Each column starts from the same noise."


def part(studio: Studio, model: gr.Dropdown, fields: list) -> None:
    """Build the part of the tab. fields: those of the way to sample."""
    page = SimpleNamespace()
    with gr.Accordion("Compare, from the same noise", open=False, elem_id="compare"):
        with gr.Row(equal_height=False, elem_classes="fields"):
            over = gr.Radio(["steps", "η", "solvers"], value="steps", label="Over", min_width=220)
            text = gr.Textbox(OVER["steps"], label="Values", min_width=200)
            with gr.Row(elem_classes="buttons"):
                go = gr.Button("Compare", variant="primary", min_width=90)
                stop = gr.Button("Stop", min_width=70)
        page.note = html(render.note("All else is as in the fields beside."))
        page.rows = html(elem_id="compared")
        page.lines = html(js_on_load=render.COPY)
    usual = {"steps": OVER["steps"], "η": OVER["eta"], "solvers": OVER["solver"]}
    over.input(usual.get, over, text, queue=False, show_progress="hidden", api_visibility="private")
    work(
        go.click, page.note, lambda *given: compare(studio, page, *given), [model, over, text, *fields],
        [page.rows, page.lines], stop,
    )  # fmt: skip
