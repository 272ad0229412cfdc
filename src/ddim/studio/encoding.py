"""The tab that encodes an image: its latent, the way back, and what is lost, by solver and number of steps."""

from collections.abc import Iterator
from types import SimpleNamespace

import gradio as gr
from torch import Tensor

from ddim.diffusion.latents import check_pair_grid, decoding, encoding, latents_of
from ddim.diffusion.solvers import find
from ddim.errors import InputError
from ddim.jobs.latent_jobs import data_course
from ddim.studio import render
from ddim.studio.recipes import Origin, Recipe, arguments, literal
from ddim.studio.settings import Studio
from ddim.studio.tray import Tray
from ddim.studio.work import html, steps_of, work

SOLVERS = ("ddim", "exact")
SHOWN = 0.25  # the error, on [0, 1], that is white


def recipe(origin: Origin, name: str, steps: list[int]) -> Recipe:
    """The lines that encode and decode an image each way."""
    commands = []
    for solver in SOLVERS:
        for S in steps:
            file = f"{solver}-{S}.safetensors"
            how = {} if solver == "ddim" else {"solver": solver}
            commands.append(origin.command("encode", name, exact=True, **how, steps=S, out=file))
            commands.append(origin.command("decode", file, exact=True, out=f"{solver}-{S}"))
    python = origin.python() + (
        f"images = ddim.data.Selection([{literal(name)}], model.shape).batch(range(1))\n"
        f"for solver in {SOLVERS!r}:\n"
        f"    for steps in {steps!r}:\n"
        f"        z = ddim.encode(model, images{arguments({})}, steps=steps, solver=solver)\n"
        "        back = ddim.decode(model, z, steps=steps)\n"
        '        ddim.plots.save(ddim.plots.to_pil(back[0]), f"{solver}-{steps}.png")\n'
    ).replace("'", '"')
    return Recipe("\n".join(commands), python)


def error_of(back: Tensor, image: Tensor) -> tuple[float, Tensor]:
    """The root mean square difference of pixels on [0, 1], and where it is: (C, H, W), −1 for none."""
    off = (back.clamp(-1, 1) - image) / 2  # (C, H, W) on [0, 1]
    where = (off.abs().amax(0, keepdim=True) / SHOWN).clamp(max=1) * 2 - 1
    return off.square().mean().sqrt().item(), where.expand_as(image)


def encode(studio: Studio, page, name: str, drawn, given, chosen, text: str) -> Iterator[dict]:
    """Encode and decode the image each way, and show each as it comes."""
    picked = Tray.of(drawn, given, chosen)
    if not picked:
        raise InputError("choose an image first: sample some, upload one, or take one from the data")
    one, (origin, model) = picked[-1], (studio.origin(name, exact=True), studio.model(name, exact=True))
    steps, x, lines, numbers = steps_of(text), one.batch.to(model.device), [], []
    courses = {(s, S): data_course(model, find(s), S) for s in SOLVERS for S in steps}
    for (s, _), (path, _) in courses.items():
        if s == "exact":
            check_pair_grid(path)
    total, done = 2 * sum(len(path) - 1 for path, _ in courses.values()), 0
    yield {page.note: render.note("Beginning…", 0), page.lines: "", page.numbers: ""}
    for (s, S), (path, solver) in courses.items():
        for moment in encoding(model, x, path, solver):
            done += 1
            if done % 10 == 0:
                yield {page.note: render.note(f"{s}, {S} steps: encoding", done / total)}
        z = latents_of(moment, x)
        for moment in decoding(model, z, path, solver):
            done += 1
            if done % 10 == 0:
                yield {page.note: render.note(f"{s}, {S} steps: decoding", done / total)}
        latent, back = (z if isinstance(z, Tensor) else z[0])[0].cpu(), moment.x[0].to(x.dtype).cpu()
        error, where = error_of(back, x[0].cpu())
        lines.append((f"{s}, S = {S}", [x[0].cpu(), render.latent(latent), back, where]))
        numbers.append((s, S, f"{error:.2g}", f"{latent.mean():.3f}", f"{latent.std():.3f}"))
        heads = ["image", "latent", "back", "error"]
        yield {page.rows: render.rows(lines, heads), page.numbers: render.table(numbers, HEADS)}
    yield {
        page.note: render.note(f"{one.name}: error is white where it is a quarter of the range or more. {HINT}"),
        page.lines: render.recipe(recipe(origin, one.name, steps)) + saving(one),
    }  # fmt: skip


HEADS = ("solver", "S", "error (rms on [0, 1])", "latent's mean", "deviation")
HINT = "A latent as noise should be has mean 0 and deviation 1."


def saving(one) -> str:
    """The image as the lines need it."""
    return f'<p class="links">{render.download(render.png(one.image), one.name, f"Download {one.name}")}</p>'


def tab(studio: Studio, model: gr.Dropdown, drawn: gr.State, given: gr.State) -> Tray:
    """Build the tab, and return its tray."""
    page = SimpleNamespace()
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280, elem_classes="controls"):
            tray = Tray(studio, model, drawn, given)
            steps = gr.Textbox("10 20 50 100", label="Steps", info="one row each, for ddim and for exact")
            with gr.Row(elem_classes="buttons"):
                go = gr.Button("Encode", variant="primary", min_width=90)
                stop = gr.Button("Stop", min_width=70)
        with gr.Column(scale=3, min_width=300):
            page.note = html(render.note("An image goes up to its latent and comes back: how much of it?"))
            with gr.Row(equal_height=False, elem_classes="sheets"):
                page.rows = html(min_width=280, elem_id="round-trips")
                page.numbers = html(min_width=280)
            page.lines = html(js_on_load=render.COPY)
    inputs = [model, drawn, given, tray.chosen, steps]
    work(
        go.click, page.note, lambda *fields: encode(studio, page, *fields), inputs,
        [page.rows, page.numbers, page.lines], stop,
    )  # fmt: skip
    return tray
