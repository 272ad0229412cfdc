"""The tab that shows trainings, as they go on in whatever process, and starts and stops some."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from ddim.errors import InputError, choose
from ddim.studio import curves, render
from ddim.studio.recipes import Recipe, literal, quoted
from ddim.studio.settings import Studio
from ddim.studio.work import html, view
from ddim.training.record import Record, record
from ddim.training.watch import seconds_of

EVERY = 2  # seconds between looks
SHEETS = 4  # that are shown


def runs(studio: Studio) -> list[str]:
    """The runs under the studio's folder, the newest first, and those among the models."""
    here = sorted(studio.runs.glob("*/train.json"), key=lambda path: -path.stat().st_mtime)
    named = [Path(name) for name in studio.models if (Path(name) / "train.json").exists()]
    return list(dict.fromkeys(map(str, [*(path.parent for path in here), *named])))


def shown(run: Record) -> dict[str, str]:
    """The parts of a run in the page."""
    chosen = run.sheets if len(run.sheets) <= SHEETS else [run.sheets[0], *run.sheets[1 - SHEETS :]]
    figures = [render.figure(path.read_bytes(), f"step {step:,}", "grown") for step, path in reversed(chosen)]
    about = "training" if run.running else "not running"
    words = "".join(f"<li>{render.escaped(line)}</li>" for line in run.words)
    return {
        "state": f'<h3>{render.escaped(run.out.name)} <small>{about}</small></h3><ul class="words">{words}</ul>',
        "curve": curves.losses(run.losses, run.held_out),
        "sheets": f'<div class="grown">{"".join(figures)}</div>' if figures else "",
    }


def recipe(run: Record) -> Recipe:
    """The lines that train the same again, with the settings that the run was begun with."""
    preset, data, time = (run.settings.get(name) for name in ("preset", "data", "time"))
    words = [*([preset] if preset else []), "--data", data, *(["--time", time] if time else []), "--out", run.out]
    kept = f", preset={literal(preset)}" if preset else ""
    kept += f", time={literal(time)}" if time else ""
    python = f"import ddim\n\nddim.train({literal(str(data))}, {literal(str(run.out))}{kept})"
    return Recipe("ddim train " + " ".join(map(quoted, words)), python)


def look(studio: Studio, page, name: str | None, seen: str) -> dict:
    """Look at a run again; what has not changed is not sent again."""
    names = runs(studio)
    if not names:
        return {page.note: render.note("No run yet: start one here, or by ddim train.")}
    name = name if name in names else names[0]
    run = record(name)
    now = f"{name} {len(run.lines)} {len(run.sheets)} {run.running} {len(names)}"
    if now == seen:
        return {page.seen: now}
    parts = {getattr(page, part): text for part, text in shown(run).items()}
    choices, models = gr.update(choices=names, value=name), gr.update(choices=studio.names())
    lines = render.recipe(recipe(run), "How it was begun")
    return {page.seen: now, page.run: choices, page.model: models, page.lines: lines, **parts}


def start(studio: Studio, page, data: str, time: str, name: str) -> Iterator[dict]:
    """Start a training in a process of its own."""
    if studio.read_only:
        raise InputError("this studio is read-only: it starts and stops no training")
    choose("data", data, dict.fromkeys(sources(studio)))
    if not re.fullmatch(r"\w[\w-]{0,39}", name or ""):
        raise InputError(f"a run is named by letters, digits and hyphens; got {name!r:.60}")
    if not seconds_of(time or ""):
        raise InputError("give the training a time, such as 2m or 1h")
    if [other for other, process in studio.trainings.items() if process.poll() is None]:
        raise InputError("a training is running: stop it, or wait for its end")
    out = studio.runs / name
    if out.exists():
        raise InputError(f"there is a run {name}: name another")
    studio.runs.mkdir(parents=True, exist_ok=True)
    words = ["train", "--data", data, "--time", time, "--out", str(out)]
    words += [] if studio.device is None else ["--device", studio.device]
    with open(studio.runs / f"{name}.txt", "w", encoding="utf-8") as said:
        command = [sys.executable, "-m", "ddim", *words]
        studio.trainings[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    yield {page.note: render.note(f"{name} has begun; it is shown here in some seconds."), page.run: str(out)}


def stop(studio: Studio, page) -> Iterator[dict]:
    """Ask the training that was started here to end, saved, after its step."""
    going = {name: process for name, process in studio.trainings.items() if process.poll() is None}
    if not going:
        raise InputError("no training that was started here is running")
    for process in going.values():
        process.send_signal(signal.SIGTERM)
    yield {page.note: render.note(f"{', '.join(going)}: stopping; what it has trained is saved.")}


def failed(studio: Studio) -> str:
    """What the last training that was started here ended with, where it failed."""
    for name, process in reversed(studio.trainings.items()):
        if process.poll() not in (None, 0, 130, 143):
            lines = (studio.runs / f"{name}.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return f"{name}: {lines[-1].removeprefix('ddim: ') if lines else 'ended'}"
        return ""
    return ""


def sources(studio: Studio) -> list[str]:
    """The images that can be trained on."""
    return [studio.data] if studio.data not in (None, "digits") else ["digits"]


def tab(studio: Studio, model: gr.Dropdown) -> SimpleNamespace:
    """Build the tab; returns its components: `timer` looks again while it is active."""
    page = SimpleNamespace(seen=gr.State(""), timer=gr.Timer(EVERY, active=False), model=model)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280, elem_classes="controls"):
            page.run = gr.Dropdown(runs(studio), label="Run", allow_custom_value=True)
            if not studio.read_only:
                html("<h3>Start one</h3>")
                data = gr.Dropdown(sources(studio), value=sources(studio)[0], label="Images", filterable=False)
                with gr.Row(elem_classes="fields"):
                    time = gr.Textbox("2m", label="Time", info="such as 90s, 10m, 2h", min_width=90)
                    name = gr.Textbox("first", label="Name", info="of the run", min_width=90)
                with gr.Row(elem_classes="buttons"):
                    go = gr.Button("Train", variant="primary", min_width=90)
                    end = gr.Button("Stop", min_width=70)
        with gr.Column(scale=3, min_width=300):
            page.note = html(render.note("A run is looked at every two seconds, whichever process trains it."))
            page.state = html(elem_id="state")
            with gr.Row(equal_height=False, elem_classes="sheets"):
                page.curve = html(elem_id="curve", min_width=280)
                page.sheets = html(elem_id="grown", min_width=280)
            page.lines = html(js_on_load=render.COPY)
    outputs = [page.note, page.run, page.model, page.state, page.curve, page.sheets, page.lines, page.seen]

    def again(chosen: str | None, seen: str) -> Any:
        try:
            found = look(studio, page, chosen, seen)
        except (InputError, OSError) as error:  # a run that is being written, or was taken away
            return {page.note: render.alert(str(error))}
        return found | ({page.note: render.alert(words)} if (words := failed(studio)) else {})

    how = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    page.timer.tick(again, [page.run, page.seen], outputs, **how)
    page.run.input(again, [page.run, page.seen], outputs, **how)
    if not studio.read_only:
        begin = [data, time, name]
        view(go.click, page.note, lambda *fields: start(studio, page, *fields), begin, [page.run])
        view(end.click, page.note, lambda: stop(studio, page), [], [])
    return page
