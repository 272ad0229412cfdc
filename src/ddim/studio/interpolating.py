"""The tab that goes between images through the latent space."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from ddim.diffusion.latents import encoding, latents_of
from ddim.diffusion.walk import Moment
from ddim.errors import InputError
from ddim.jobs.latent_figures import of_seeds, sheet_between, sphere_walks, stills_between
from ddim.jobs.latent_jobs import data_course
from ddim.plots.animations import animated
from ddim.studio import render
from ddim.studio.recipes import Origin, Recipe, arguments
from ddim.studio.settings import Studio
from ddim.studio.tray import Given, Tray
from ddim.studio.work import html, whole, work


@dataclass(frozen=True)
class Path:
    """A way that was gone: its images, (rows, frames, C, H, W)."""

    images: Tensor = field(repr=False)


def recipe(origin: Origin, ends: list[Given], frames: int, steps: int) -> Recipe:
    """The lines that give the sheet and the animation."""
    how = {"frames": frames, "steps": steps}
    if sampled(ends):
        how = {"seeds": [one.seed for one in ends], "numbers": [one.number for one in ends]} | how
        names = []
    else:
        names = [one.name for one in ends]
    command = origin.command("interpolate", *names, exact=True, **how)
    files = arguments({"images": names} if names else {})
    return Recipe(
        command, origin.python() + f'ddim.interpolation_figure(model, "interpolate"{files}{arguments(how)})\n'
    )


def sampled(ends: list[Given]) -> bool:
    """Whether all ends have latents of their own, the noise that they were sampled from."""
    return all(one.seed is not None for one in ends)


def interpolate(studio: Studio, page, name: str, drawn, given, chosen, frames, steps) -> Iterator[dict]:
    """Go the way, and show how it comes out of noise."""
    ends = Tray.of(drawn, given, chosen)
    if len(ends) not in (2, 4):
        raise InputError(f"choose two or four images; {len(ends)} are chosen")
    frames = whole(frames, "the number of frames", 2, 32)
    origin, model = studio.origin(name, exact=True), studio.model(name, exact=True)
    steps, real = whole(steps, "the number of steps", 1, model.T), not sampled(ends)
    path, solver = data_course(model, "exact" if real else "ddim", steps, "quadratic" if real else "linear")
    yield {page.note: render.note("Beginning…", 0), page.lines: "", page.still: "", page.path: None}
    images = torch.cat([one.batch for one in ends]).to(model.device) if real else None
    if real:
        for i, moment in enumerate(encoding(model, images, path, solver), 1):
            yield {page.note: render.note(f"encoding, step {i} of {steps}", i / steps / 2)}
        z: Any = latents_of(moment, images)
    else:
        z = of_seeds(model, [one.seed for one in ends], [one.number for one in ends]).to(model.device)
    walks, made = sphere_walks(lambda part: model, model, z, path, frames, solver, False if real else None, None), []
    for b, walk in enumerate(walks):
        for i, moment in enumerate(walk, 1):
            done = (b + i / steps) / len(walks)
            said = render.note(f"decoding, step {i} of {steps}", (0.5 + done / 2) if real else done)
            yield {page.note: said} | ({page.sheet: live(moment, frames)} if i % max(1, steps // 20) == 0 else {})
        made.append(moment.x.float().cpu())
    rows = list(torch.cat(made).split(frames))  # each (F, C, H, W)
    shown = images.cpu() if real else None
    lines = render.recipe(recipe(origin, ends, frames, steps))
    yield finished(page, model, rows, shown) | {page.lines: lines}


def live(moment: Moment, frames: int) -> str:
    x0 = moment.prediction.x0.clamp(-1, 1)
    return render.sheet(x0[: frames * frames], still=True, columns=frames)


def finished(page, model, rows: list[Tensor], ends: Tensor | None) -> dict:
    """The sheet, the animation, and the sliders."""
    sheet = render.png(sheet_between(model, rows, [], ends))
    moving = animated(stills_between(model, rows, []), "gif", back=True)
    links = [render.download(sheet, "interpolate.png", "Download the sheet")]
    links.append(render.download(moving, "interpolate.gif", "Download the animation", "image/gif"))
    shown = f'<img class="whole" src="{render.url(sheet)}" alt="the way between the images">'
    shown += f'<p class="links">{" ".join(links)}</p>'
    across, down = len(rows[0]) - 1, len(rows) - 1
    return {
        page.note: render.note("Move the slider, or download the animation."), page.sheet: shown,
        page.path: Path(torch.stack(rows)), page.still: still(Path(torch.stack(rows)), 0, 0),
        page.across: gr.update(maximum=across, value=0, visible=True),
        page.down: gr.update(maximum=max(down, 1), value=0, visible=down > 0),
    }  # fmt: skip


def still(path: Path | None, across: float, down: float) -> str:
    """One image of the way."""
    if path is None:
        return ""
    rows, frames = path.images.shape[:2]
    i, k = min(int(down), rows - 1), min(int(across), frames - 1)
    where = f"{k} of {frames - 1}" + (f", {i} of {rows - 1}" if rows > 1 else "")
    return render.figure(path.images[i, k], where)


def tab(studio: Studio, model: gr.Dropdown, drawn: gr.State, given: gr.State) -> Tray:
    """Build the tab, and return its tray."""
    page = SimpleNamespace(path=gr.State(None))
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280, elem_classes="controls"):
            tray = Tray(studio, model, drawn, given, most=4)
            with gr.Row(elem_classes="fields"):
                frames = gr.Number(11, label="Frames", precision=0, minimum=2, maximum=32, min_width=90)
                steps = gr.Number(50, label="Steps", precision=0, minimum=1, min_width=90)
            with gr.Row(elem_classes="buttons"):
                go = gr.Button("Interpolate", variant="primary", min_width=90)
                stop = gr.Button("Stop", min_width=70)
        with gr.Column(scale=3, min_width=300):
            page.note = html(render.note("Sample first, or upload images; choose two for a row, four for a sheet."))
            with gr.Row(equal_height=False, elem_classes="sheets"):
                page.sheet = html(min_width=280, elem_id="way")
                with gr.Column(min_width=200):
                    page.still = html(elem_id="still")
                    page.across = gr.Slider(0, 10, 0, step=1, label="Across", visible=False)
                    page.down = gr.Slider(0, 10, 0, step=1, label="Down", visible=False)
            page.lines = html(js_on_load=render.COPY)
    outputs = [page.sheet, page.still, page.across, page.down, page.path, page.lines]
    inputs = [model, drawn, given, tray.chosen, frames, steps]
    work(go.click, page.note, lambda *fields: interpolate(studio, page, *fields), inputs, outputs, stop)
    for slider in (page.across, page.down):
        slider.input(
            still, [page.path, page.across, page.down], page.still, queue=False, show_progress="hidden",
            trigger_mode="always_last", api_visibility="private",
        )  # fmt: skip
    return tray
