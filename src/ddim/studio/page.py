"""The page: the name of the model, and the tabs."""

import gradio as gr

from ddim.errors import InputError
from ddim.studio import editing, encoding, exploring, figures, interpolating, render, sampling, training, ways
from ddim.studio.settings import Studio
from ddim.studio.tray import Tray
from ddim.studio.work import html, listen


def about(studio: Studio, name: str) -> str:
    """A model in a line. Raises InputError."""
    model = studio.model(name)
    (channels, height, width), parameters = model.shape, studio.sizes[name] / 1e6
    words = [f"{height}×{width}", "greyscale" if channels == 1 else f"{channels} channels" if channels != 3 else "RGB"]
    words += [f"T = {model.T}", f"{parameters:.2f} M parameters", f"{model.facts.precision} on {model.device.type}"]
    words += [f"{len(model.classes)} classes"] if model.classes else []
    return f'<p class="about">{" · ".join(words)}</p>'


def opened(name: str) -> gr.Tab:
    """A tab, which tests and styles find by its name."""
    return gr.Tab(name, id=name.lower(), elem_id=name.lower())


def look_on(event: gr.SelectData) -> gr.Timer:
    """Runs are looked at while their tab is open."""
    return gr.Timer(active=event.value == "Train")


def changes(studio: Studio, name: str, known: gr.HTML, fields: list, trays: dict[str, Tray]) -> dict:
    """What another model changes: its facts, and what the fields can be for it."""
    try:
        model = studio.model(name)
    except InputError as error:
        return {known: render.alert(str(error))}
    found, classes = {known: about(studio, name)} | ways.changed(fields, model), ways.classes_for(model)
    for k, field in enumerate(trays["Edit"].classes):
        found[field] = gr.update(choices=classes, value=classes[-k])
    for tray in trays.values():
        found |= {tray.sheet: "", tray.chosen: []}
    return found


def page(studio: Studio) -> gr.Blocks:
    """All tabs over one model."""
    with gr.Blocks(title="ddim studio", analytics_enabled=False, fill_width=True) as blocks:
        listen(blocks)
        drawn, given = gr.State(None), gr.State([])
        tabs, trays = {}, {}
        with gr.Row(elem_id="top", equal_height=True):
            html("<h1>ddim studio</h1>", elem_id="name")
            model = gr.Dropdown(
                studio.names(), value=studio.models[0], label="Model", min_width=200,
                elem_id="model", allow_custom_value=True,
            )  # fmt: skip
            known = html(elem_id="about", min_width=260)
        with gr.Tabs(elem_id="tabs") as every:
            with opened("Sample"):
                sampled = sampling.tab(studio, model, drawn)
            with opened("Interpolate") as tabs["Interpolate"]:
                trays["Interpolate"] = interpolating.tab(studio, model, drawn, given)
            with opened("Encode") as tabs["Encode"]:
                trays["Encode"] = encoding.tab(studio, model, drawn, given)
            with opened("Edit") as tabs["Edit"]:
                trays["Edit"] = editing.tab(studio, model, drawn, given)
            with opened("Explore"):
                exploring.tab(studio, model)
            with opened("Train"):
                trained = training.tab(studio, model)
            with opened("Figures"):
                figures.tab(studio, model)
        for name, tray in trays.items():
            tray.opened_by(tabs[name])
        every.select(
            look_on, None, trained.timer, queue=False, show_progress="hidden", api_visibility="private"
        )  # fmt: skip

        changing = [known, drawn, given, *sampled.fields, *trays["Edit"].classes]
        changing += [part for tray in trays.values() for part in (tray.sheet, tray.chosen)]

        def chosen(name: str):
            return {known: "", drawn: None, given: []} | changes(studio, name, known, sampled.fields, trays)

        model.input(chosen, model, changing, show_progress="hidden", api_visibility="private")
        blocks.load(
            lambda name: (gr.update(choices=studio.names()), about(studio, name)), model, [model, known],
            show_progress="hidden", api_visibility="private",
        )  # fmt: skip
    return blocks.queue(default_concurrency_limit=None)
