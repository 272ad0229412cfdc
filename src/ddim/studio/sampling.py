"""The tab that samples: noise becomes images while one looks on."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from ddim.diffusion.noise import normal
from ddim.diffusion.sampling import default_batch_size
from ddim.errors import InputError
from ddim.evaluation.metrics import neighbours
from ddim.images.pixels import to_uint8
from ddim.jobs.cost import seconds_of_ddpm
from ddim.studio import comparing, render
from ddim.studio.settings import Studio
from ddim.studio.ways import Drawn, Way, fields
from ddim.studio.work import LIVE, html, view, whole, work

SHOWN = 16  # images of a walk that goes on
NEAREST = 6  # training images beside a chosen one


def shown(x: Tensor, prediction, t, T: int) -> tuple[str, str]:
    """The two sheets of a walk that goes on."""
    part = f", the first {SHOWN}" if len(x) > SHOWN else ""
    left = f"<h3>x<sub>t</sub> <small>t = {t:g} of {T}{part}</small></h3>"
    right = "<h3>x̂<sub>0</sub> <small>what the network expects</small></h3>"
    now, expected = (render.sheet(images[:SHOWN].clamp(-1, 1), still=True) for images in (x, prediction.x0.cpu()))
    return left + now, right + expected


def sample(studio: Studio, page, name: str, *fields: Any) -> Iterator[dict]:
    """Walk, and show where the walk is. page: the components."""
    origin, model = studio.origin(name), studio.model(name)
    way = Way.of(model, *fields)
    path, solver, *_ = way.course(model)
    S, seconds, last, made = len(path) - 1, 0.0, 0.0, []
    twice = 2 if way.label is not None and way.guidance not in (0, 1) else 1
    yield {page.note: render.note("Beginning…", 0), page.lines: ""}
    for indices, walk in way.walks(model, path, solver):
        for i in range(1, S + 1):
            begun = time.perf_counter()
            moment = next(walk)
            x = moment.x.cpu()
            seconds += time.perf_counter() - begun
            if time.monotonic() - last > LIVE:
                last = time.monotonic()
                left, right = shown(x, moment.prediction, path[i], model.T)
                done = (indices.start + len(indices) * i / S) / way.n
                text = f"step {i} of {S} · {seconds:.2f} s"
                yield {page.note: render.note(text, done), page.left: left, page.right: right}
        made.append(x.clamp(-1, 1))
    calls = solver.evaluations(path)
    cost = f"{way.n} images, {S} steps" + (f", {calls * twice} evaluations" if calls else "") + f": {seconds:.2f} s"
    drawn = Drawn(origin, way, torch.cat(made))
    yield {
        page.note: render.note(f"{cost} · measuring DDPM…"), page.left: chooser(drawn), page.right: CHOOSE_ONE,
        page.lines: render.recipe(drawn.recipe()), page.drawn: drawn,
    }  # fmt: skip
    yield {page.note: render.note(f"{cost}. {beside_ddpm(studio, name, way, seconds)}")}


CHOOSE_ONE = '<p class="hint">Choose an image: here are its latent, and what it is nearest to.</p>'


def chooser(drawn: Drawn, chosen: int | None = None) -> str:
    return "<h3>Images</h3>" + render.sheet(drawn.images, () if chosen is None else (chosen,))


def beside_ddpm(studio: Studio, name: str, way: Way, seconds: float) -> str:
    """What DDPM would have taken for as many images on this machine: measured once."""
    model = studio.model(name)
    n, over = min(way.n, default_batch_size(model)), 5
    if (name, n) not in studio.timed:
        studio.timed[name, n] = seconds_of_ddpm(model, n, over)
    ddpm = studio.timed[name, n] * way.n / n
    ratio = ddpm / max(seconds, 1e-9)
    times = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"
    long = f"would take about {ddpm:,.3g} s, {times} times as long"
    return f"DDPM with {model.T} steps {long} ({over} of its steps were measured)."


def choosing(studio: Studio, page):
    """The handler of a click on the sheet."""

    def choose(drawn: Drawn | None, event: gr.EventData):
        if drawn is not None:
            yield from details(studio, page, drawn, event.index)

    return choose


def details(studio: Studio, page, drawn: Drawn, index: Any) -> Iterator[dict]:
    """An image of the sheet: its number, its latent, its nearest training images."""
    k = whole(index, "the number of the image", 0, len(drawn.images) - 1)
    image, way = drawn.images[k], drawn.way
    z = normal(way.seed, [k], image.shape)[0]
    parts = [f"<h3>Image {k} of seed {way.seed}</h3>", '<div class="pair">', render.figure(image, "the image")]
    parts += [render.figure(render.latent(z), "its latent x<sub>T</sub>: the noise it came from"), "</div>"]
    parts.append(render.download(render.png(image), f"{k:05d}.png", "Download the image"))
    yield {
        page.left: chooser(drawn, k), page.right: "".join(parts), page.lines: render.recipe(drawn.recipe(k)),
    }  # fmt: skip
    try:
        real = studio.known(studio.model(drawn.origin.name))
    except InputError as error:
        found = f'<p class="hint">{error}</p>'
    else:
        if isinstance(real, Tensor):
            index, distance = neighbours(to_uint8(image[None]), real, NEAREST)
            text = f"nearest training images, at {distance[0, 0]:.1f} to {distance[0, -1]:.1f} grey levels (rms)"
            found = f"<h4>{text}</h4>" + render.sheet(real[index[0]], still=True, columns=NEAREST)
        else:
            found = '<p class="hint">The training images are too many to be searched here.</p>'
    yield {page.right: "".join([*parts, found])}


def tab(studio: Studio, model: gr.Dropdown, drawn: gr.State) -> SimpleNamespace:
    """Build the tab. model: the name of the model; drawn: what was sampled last."""
    page = SimpleNamespace(drawn=drawn)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280, elem_classes="controls"):
            page.fields = fields(studio.model(studio.models[0]))
            with gr.Row(elem_classes="buttons"):
                go = gr.Button("Sample", variant="primary", min_width=90)
                stop = gr.Button("Stop", min_width=70)
        with gr.Column(scale=3, min_width=300):
            page.note = html(render.note(BEGIN))
            with gr.Row(equal_height=False, elem_classes="sheets"):
                page.left = html(js_on_load=render.CHOOSE, elem_id="images", min_width=280)
                page.right = html(elem_id="beside", min_width=280)
            page.lines = html(js_on_load=render.COPY, elem_id="sample-lines")
            comparing.part(studio, model, page.fields)
    outputs = [page.left, page.right, page.lines, drawn]
    work(go.click, page.note, lambda *given: sample(studio, page, *given), [model, *page.fields], outputs, stop)
    view(page.left.select, page.note, choosing(studio, page), [drawn], outputs[:3])
    return page


BEGIN = "Press Sample: noise becomes images, step by step."
