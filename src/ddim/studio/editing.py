"""The tab that edits an image: makes a part anew, varies it by strength, changes its class."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gradio as gr

from ddim.diffusion.guidance import guided, labels_of
from ddim.diffusion.latents import decoding, encoding, latents_of
from ddim.diffusion.operators import Inpainting
from ddim.diffusion.restoration import GRADIENTS, METHODS, checked, finished, restoring, stream
from ddim.diffusion.varying import inverse, relabel_course, varying, varying_course
from ddim.diffusion.walk import Moment
from ddim.errors import InputError, choose
from ddim.studio import render
from ddim.studio.painting import PAINT, easel, file_of, mask_of
from ddim.studio.recipes import Origin, Recipe, arguments, literal
from ddim.studio.settings import Studio
from ddim.studio.tray import Given, Tray
from ddim.studio.ways import classes_for
from ddim.studio.work import LIVE, html, number, view, whole, work

MOST = 16  # answers
UNPAINTED = (0.0, "")  # when the last stroke ended, in the page's time, and the mask


def picked(drawn, given, chosen) -> Given:
    """The image to edit. Raises InputError where none is chosen."""
    found = Tray.of(drawn, given, chosen)
    if not found:
        raise InputError("choose an image first: sample some, upload one, or take one from the data")
    return found[-1]


def going(page, walk: Iterator[Moment], steps: int, what: str, begun: float = 0.0, part: float = 1.0):
    """Show a walk that goes on; returns its last moment."""
    last = 0.0
    for i, moment in enumerate(walk, 1):
        if time.monotonic() - last > LIVE:
            last, expected = time.monotonic(), moment.prediction.x0.cpu().clamp(-1, 1)
            note = render.note(f"{what}: step {i} of {steps}", begun + part * min(1, i / steps))
            yield {page.note: note, page.live: render.sheet(expected, still=True)}
    return moment


def loaded(origin: Origin, one: Given) -> str:
    """The lines of Python that load the model and the image."""
    return origin.python() + f"images = ddim.data.Selection([{literal(one.name)}], model.shape).batch(range(1))\n"


def finish(page, rows: list, note: str, lines: Recipe, *files: tuple[bytes, str]) -> dict:
    """The end of an edit: the images, the lines, and the files that the lines need."""
    links = "".join(render.download(content, name, f"Download {name}") for content, name in files)
    return {
        page.note: render.note(note), page.live: "", page.rows: render.rows(rows),
        page.lines: render.recipe(lines) + f'<p class="links">{links}</p>',
    }  # fmt: skip


def inpaint(studio: Studio, page, name, drawn, given, chosen, mask, method, answers, steps, resample, seed):
    """Make what is painted anew."""
    one, exact = picked(drawn, given, chosen), choose("method", method, {m: m in GRADIENTS for m in METHODS})
    origin, model = studio.origin(name, exact), studio.model(name, exact)
    painted = mask_of(mask[1], model.shape)
    answers, seed = whole(answers, "the number of answers", 1, MOST), whole(seed, "the seed", 0, 2**53)
    steps = whole(steps, "the number of steps", 1, model.T)
    resample = whole(resample, "how often a step is taken", 1, 20) if method == "projection" else 1
    operator, y = Inpainting(painted), one.batch
    path, solver = checked(model, y, operator, method, answers, steps, "linear", None, "ddim", 1.0, 0.0, resample)
    rows, part = [0] * answers, operator
    streams = [stream(k, answers) for k in range(answers)]
    walk = restoring(model, y[rows], part, path, streams, method, solver, 1.0, seed, 0.0, resample)
    yield {page.note: render.note("Beginning…", 0), page.lines: "", page.rows: ""}
    moment = yield from going(page, walk, steps, "inpainting")
    made = finished(moment.x.cpu(), y[rows], part)
    how = {"method": None if method == "projection" else method, "answers": answers, "steps": steps}
    how |= {"seed": seed, "resample": None if resample == 1 else resample}
    command = origin.command("inpaint", one.name, mask="mask.png", **how)
    python = loaded(origin, one) + 'mask = ddim.plots.read("mask.png")[0] > 127\n'
    python += f"made = ddim.inpaint(model, images, mask{arguments(how)})\n" + saved("made")
    shown = [("image", [y[0]]), ("mask", [painted[None].float() * 2 - 1]), ("answers", made)]
    files = (render.png(one.image), one.name), (file_of(painted), "mask.png")
    yield finish(page, shown, "What was not painted returns exactly.", Recipe(command, python), *files)


def saved(name: str) -> str:
    """The line of Python that writes images as the command does."""
    return f'for k, image in enumerate({name}):\n    ddim.plots.save(ddim.plots.to_pil(image), f"{{k:05d}}.png")\n'


def strengths_of(text: str) -> list[float]:
    """Strengths from a text such as "0.2 0.5". Raises InputError."""
    try:
        found = [float(word) for word in str(text).replace(",", " ").split()]
    except ValueError:
        found = []
    if not 0 < len(found) <= 8 or not all(0 < value <= 1 for value in found):
        raise InputError(f"strengths are one to eight numbers above 0, at most 1, such as 0.2 0.5; got {text!r:.60}")
    return list(dict.fromkeys(found))


def vary(studio: Studio, page, name, drawn, given, chosen, text, answers, steps, seed) -> Iterator[dict]:
    """Variations of the image, a row a strength."""
    one, origin, model = picked(drawn, given, chosen), studio.origin(name, True), studio.model(name, True)
    strengths, seed = strengths_of(text), whole(seed, "the seed", 0, 2**53)
    answers, steps = whole(answers, "the number of answers", 1, MOST), whole(steps, "the number of steps", 1, model.T)
    ways = [varying_course(model, s, steps, None, None, 0.0) for s in strengths]
    x, streams, made = one.batch[[0] * answers], [stream(k, answers) for k in range(answers)], []
    yield {page.note: render.note("Beginning…", 0), page.lines: "", page.rows: ""}
    for k, (s, (path, solver)) in enumerate(zip(strengths, ways, strict=True)):
        walk = varying(model, x, path, streams, solver, seed=seed)
        moment = yield from going(page, walk, len(path) - 1, f"strength {s:g}", k / len(ways), 1 / len(ways))
        made.append((f"{s:g}", moment.x.clamp(-1, 1).cpu()))
        yield {page.rows: render.rows([("image", [one.batch[0]]), *made])}
    how = {"answers": answers, "steps": steps, "seed": seed}
    command = origin.command("vary", one.name, exact=True, strength=strengths, **how)
    python = loaded(origin, one) + f"made = []\nfor strength in {strengths!r}:\n"
    python += f"    made += ddim.vary(model, images, strength{arguments(how)})\n" + saved("made")
    rows = [("image", [one.batch[0]]), *made]
    note = "A row a strength: little noise keeps the image, much makes another."
    yield finish(page, rows, note, Recipe(command, python), (render.png(one.image), one.name))


def relabel(studio: Studio, page, name, drawn, given, chosen, source, target, guidance, steps) -> Iterator[dict]:
    """The image as of another class."""
    one, origin, model = picked(drawn, given, chosen), studio.origin(name, True), studio.model(name, True)
    if not model.classes:
        raise InputError("this model knows no classes: choose one that does")
    steps, guidance = whole(steps, "the number of steps", 1, model.T), number(guidance, "guidance", 0, 100)
    path, solver = relabel_course(model, 1.0, steps, "linear", "ddim")
    before, after = labels_of(model, str(source), 1), labels_of(model, str(target), 1)
    x = one.batch.to(model.device)
    yield {page.note: render.note("Beginning…", 0), page.lines: "", page.rows: ""}
    walk = encoding(guided(model, before), x, path, solver)
    moment = yield from going(page, walk, steps, "encoding", 0, 0.5)
    walk = decoding(guided(model, after, guidance), latents_of(moment, x), path, inverse(solver))
    moment = yield from going(page, walk, steps, "decoding", 0.5, 0.5)
    made = moment.x.clamp(-1, 1).cpu()
    how = {"guidance": guidance, "steps": steps}
    command = origin.command("vary", one.name, exact=True, source=source, label=target, **how)
    python = loaded(origin, one) + f"made = ddim.relabel(model, images, {literal(source)}, {literal(target)}"
    python += f"{arguments(how)})\n" + saved("made")
    rows = [(render.escaped(str(source)), [one.batch[0]]), (render.escaped(str(target)), made)]
    note = "Encoded with the one class, decoded with the other."
    yield finish(page, rows, note, Recipe(command, python), (render.png(one.image), one.name))


def buttons(name: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row(elem_classes="buttons"):
        return gr.Button(name, variant="primary", min_width=90), gr.Button("Stop", min_width=70)


def count(value: int, label: str) -> gr.Number:
    return gr.Number(value, label=label, precision=0, minimum=0, min_width=90)


def tab(studio: Studio, model: gr.Dropdown, drawn: gr.State, given: gr.State) -> Tray:
    """Build the tab, and return its tray; its `classes` are the fields that depend on the model's."""
    page, mask = SimpleNamespace(), gr.State(UNPAINTED)
    known = classes_for(studio.model(studio.models[0]))
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280, elem_classes="controls"):
            tray = Tray(studio, model, drawn, given)
            with gr.Tabs():
                with gr.Tab("Inpaint"):
                    canvas = html(elem_id="easel", js_on_load=PAINT)
                    with gr.Row(elem_classes="fields"):
                        answers, steps = count(4, "Answers"), count(50, "Steps")
                    with gr.Row(elem_classes="fields"):
                        resample, seed = count(1, "Resample"), count(0, "Seed")
                    method = gr.Dropdown([*METHODS], value="projection", label="Method", filterable=False)
                    painting = buttons("Inpaint")
                with gr.Tab("Vary"):
                    strengths = gr.Textbox("0.2 0.4 0.6 0.8", label="Strengths", info="0 is the image, 1 a new one")
                    with gr.Row(elem_classes="fields"):
                        many, walked, sown = count(4, "Answers"), count(20, "Steps"), count(0, "Seed")
                    changing = buttons("Vary")
                with gr.Tab("Class"):
                    source = gr.Dropdown(known, value=known[0], label="It is of class")
                    target = gr.Dropdown(known, value=known[-1], label="Make it of class")
                    with gr.Row(elem_classes="fields"):
                        guidance = gr.Slider(0, 8, 2, step=0.5, label="Guidance", min_width=110)
                        taken = count(50, "Steps")
                    turning = buttons("Change the class")
        with gr.Column(scale=3, min_width=300):
            page.note = html(render.note("Choose an image; paint on it, or vary it."))
            page.live = html(elem_id="edit-live")
            page.rows = html(elem_id="edited")
            page.lines = html(js_on_load=render.COPY)
    outputs, inputs = [page.live, page.rows, page.lines], [model, drawn, given, tray.chosen]
    for (go, stop), handler, own in (
        (painting, inpaint, [mask, method, answers, steps, resample, seed]),
        (changing, vary, [strengths, many, walked, sown]),
        (turning, relabel, [source, target, guidance, taken]),
    ):
        work(go.click, page.note, bound(handler, studio, page), inputs + own, outputs, stop)
    tray.chosen.change(
        lambda *every: (shown(*every), UNPAINTED), [drawn, given, tray.chosen], [canvas, mask], queue=False,
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    view(canvas.paint, page.note, painted_on(page, mask), [mask], [mask], ordered=True)
    tray.classes = [source, target]
    return tray


def bound(handler, studio: Studio, page):
    return lambda *fields: handler(studio, page, *fields)


def painted_on(page, mask: gr.State):
    """The handler of a stroke."""

    def paint(known: tuple[float, str], event: gr.EventData):
        bits = str(event.mask)
        if event.at > known[0]:  # two quick strokes may come the other way round
            yield {mask: (event.at, bits), page.note: render.note(f"{bits.count('1')} pixels are painted.")}

    return paint


def shown(drawn, given, chosen) -> str:
    """The chosen image, to paint on."""
    found: Any = Tray.of(drawn, given, chosen)
    return easel(found[-1].image) if found else ""
