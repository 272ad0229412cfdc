"""The tab that goes through the latent space by choosing."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import gradio as gr
from torch import Tensor

from ddim.diffusion.course import sampling_course
from ddim.diffusion.neighbourhood import nearby
from ddim.diffusion.sampling import generate
from ddim.errors import InputError
from ddim.studio import render
from ddim.studio.recipes import Origin, Recipe, arguments
from ddim.studio.settings import Studio
from ddim.studio.work import LIVE, html, number, whole, work

SHEET = 9


@dataclass(frozen=True)
class Trail:
    """Where one has come to."""

    origin: Origin
    seed: int
    steps: int
    choices: tuple[int, ...] = ()
    distances: tuple[float, ...] = ()
    images: Tensor | None = field(default=None, repr=False)  # (9, C, H, W), the sheet that the choices lead to

    def recipe(self) -> Recipe:
        far = self.distances[0] if len(set(self.distances)) == 1 else list(self.distances)
        way = {"choices": list(self.choices), "distance": far} if self.choices else {}
        how = {"seed": self.seed, "n": SHEET}
        z = f"z = ddim.nearby(model{arguments(way | how)})\n"
        python = self.origin.python() + z + f"images = ddim.sample(model, noise=z, steps={self.steps})\n"
        command = self.origin.command("nearby", **way, **how, steps=self.steps)
        return Recipe(command, python + 'ddim.plots.save(ddim.plots.grid(images), "sheet.png")')


def show(studio: Studio, page, trail: Trail) -> Iterator[dict]:
    """Sample the sheet of a trail, live."""
    model, last = studio.model(trail.origin.name), 0.0
    z = nearby(model, trail.choices, trail.distances, SHEET, trail.seed)
    path, solver, *_ = sampling_course(model, trail.steps)
    for i, moment in enumerate(generate(model, range(SHEET), path, x=z, solver=solver), 1):
        if time.monotonic() - last > LIVE:
            last, x0 = time.monotonic(), moment.prediction.x0.clamp(-1, 1)
            note = render.note(f"step {i} of {len(path) - 1}", i / (len(path) - 1))
            yield {page.note: note, page.sheet: render.sheet(x0, still=True, columns=3)}
    images = moment.x.clamp(-1, 1).cpu()
    turn = len(trail.choices)
    text = "Choose the one that you like." if not turn else f"Choice {turn}: the chosen one is first, among neighbours."
    now = Trail(trail.origin, trail.seed, trail.steps, trail.choices, trail.distances, images)
    yield {
        page.note: render.note(text), page.sheet: render.sheet(images, columns=3), page.trail: now,
        page.lines: render.recipe(now.recipe()),
    }  # fmt: skip


def beginning(studio: Studio, page, name: str, seed: Any, steps: Any) -> Iterator[dict]:
    """The first sheet of a seed."""
    model = studio.model(name)
    seed, steps = whole(seed, "the seed", 0, 2**53), whole(steps, "the number of steps", 1, model.T)
    yield {page.past: "", page.before: [], page.lines: ""}
    yield from show(studio, page, Trail(studio.origin(name), seed, steps))


def choosing(studio: Studio, page):
    """The handler of a click on an image of the sheet."""

    def choose(trail: Trail | None, before: list, distance: float, event: gr.EventData):
        if trail is None:
            raise InputError("there is no sheet to go on from: begin one")
        k = whole(event.index, "the number of the image", 0, SHEET - 1)
        before = [*before, trail]
        yield {page.before: before, page.past: trodden(before, k)}
        choices, distances = (*trail.choices, k), (*trail.distances, number(distance, "the distance", 0, 1))
        yield from show(studio, page, Trail(trail.origin, trail.seed, trail.steps, choices, distances))

    return choose


def back(page, before: list) -> Iterator[dict]:
    """The sheet before the last choice."""
    if not before:
        raise InputError("this is the first sheet: there is no choice to take back")
    trail, before = before[-1], before[:-1]
    yield {
        page.note: render.note("Choose another, or go further back."), page.trail: trail, page.before: before,
        page.sheet: render.sheet(trail.images, columns=3), page.lines: render.recipe(trail.recipe()),
        page.past: trodden(before, trail.choices[-1] if trail.choices else None),
    }  # fmt: skip


def trodden(before: list, last: int | None) -> str:
    """The images that were chosen so far."""
    if not before:
        return ""
    ends = [trail.choices[-1] for trail in before[1:]] + [last]
    chosen = [trail.images[k] for trail, k in zip(before, ends, strict=True)]
    return "<h3>Chosen so far</h3>" + render.sheet(chosen, still=True, columns=6)


def tab(studio: Studio, model: gr.Dropdown) -> None:
    """Build the tab."""
    page = SimpleNamespace(trail=gr.State(None), before=gr.State([]))
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280, elem_classes="controls"):
            with gr.Row(elem_classes="fields"):
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=90)
                steps = gr.Number(10, label="Steps", precision=0, minimum=1, min_width=90)
            far = gr.Slider(0, 1, 0.3, step=0.05, label="Distance of neighbours", info="1 is anywhere")
            with gr.Row(elem_classes="buttons"):
                go = gr.Button("Begin", variant="primary", min_width=90)
                return_ = gr.Button("Back", min_width=70)
        with gr.Column(scale=3, min_width=300):
            page.note = html(render.note("Choose an image, get its neighbours in the latent space, and go on."))
            with gr.Row(equal_height=False, elem_classes="sheets"):
                page.sheet = html(js_on_load=render.CHOOSE, elem_id="neighbours", min_width=280)
                page.past = html(elem_id="chosen", min_width=280)
            page.lines = html(js_on_load=render.COPY)
    outputs = [page.sheet, page.past, page.lines, page.trail, page.before]
    work(go.click, page.note, lambda *fields: beginning(studio, page, *fields), [model, seed, steps], outputs)
    work(page.sheet.select, page.note, choosing(studio, page), [page.trail, page.before, far], outputs)
    work(return_.click, page.note, lambda before: back(page, before), [page.before], outputs)
