"""What the tabs share: how an event becomes work that is queued, followed, stopped, and refused in a sentence."""

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import gradio as gr
import torch

from ddim.errors import InputError
from ddim.studio import render
from ddim.system.machine import out_of_memory

LIVE = 0.15  # seconds between images of a walk that goes on
MOST = 64  # images at a time


def html(value: str = "", **how: Any) -> gr.HTML:
    """A piece of the page that is all ours: without Gradio's own styles for text."""
    return gr.HTML(value, apply_default_css=False, **how)


def guarded(note: gr.HTML, handler: Callable[..., Iterator[dict]]) -> Callable[..., Iterator[dict]]:
    """A handler that yields {component: value}, without gradients; what cannot be done becomes a sentence in `note`."""

    @functools.wraps(handler)
    def run(*args: Any):
        try:
            yield from torch.no_grad()(handler)(*args)
        except InputError as error:
            yield {note: render.alert(str(error))}
        except Exception as error:
            if not out_of_memory(error):
                raise
            yield {note: render.alert("not enough memory: take fewer images, or a smaller model")}

    return run


def work(event: Callable, note: gr.HTML, handler: Callable, inputs: list, outputs: list, stop: gr.Button | None = None):
    """Bind an event to long work: one at a time on this machine, the others wait in a queue; `stop` ends it."""
    run = event(
        guarded(note, handler), inputs, [note, *outputs], concurrency_id="network", concurrency_limit=1,
        show_progress="minimal", show_progress_on=note, trigger_mode="once", api_visibility="private",
    )  # fmt: skip
    if stop:
        stop.click(None, cancels=[run])
        run.failure(  # the end of a cancelled run: from here on, the next click counts
            lambda: render.note("Stopped."), None, note, show_progress="hidden", concurrency_limit=None,
            api_visibility="private",
        )  # fmt: skip
    return run


def view(event: Callable, note: gr.HTML, handler: Callable, inputs: list, outputs: list, ordered: bool = False):
    """Bind an event to what is shown at once, whoever else works. ordered: of several in a row each counts, in turn;
    else the last one.
    """
    turn = {"concurrency_limit": 1, "concurrency_id": "in turn"} if ordered else {"concurrency_limit": None}
    return event(
        guarded(note, handler), inputs, [note, *outputs], show_progress="hidden",
        trigger_mode="multiple" if ordered else "always_last", api_visibility="private", **turn,
    )  # fmt: skip


def listen(blocks: gr.Blocks) -> None:
    """Keep the page's stream of messages open. Gradio's page closes it when the last event has ended, and its server
    then forgets whatever has begun in that very moment: a click would be lost. One event never ends, so none is the
    last; where the connection broke, it begins again.
    """
    gr.on(
        [blocks.load, gr.Timer(2).tick], stay, None, None, show_progress="hidden", trigger_mode="once",
        concurrency_limit=None, api_visibility="private",
    )  # fmt: skip


async def stay():
    """An event without an end. It wakes up now and then, so that it ends where the page is gone."""
    while True:
        await asyncio.sleep(5)
        yield


def followed(job: Callable[[Callable], Any], show: Callable[[str, float], dict]) -> Iterator[dict]:
    """Run a job in a thread; it reports (what, done, total) to the function that it is given. Meanwhile yield what
    `show` makes of what is done, and of which part of it, 0 … 1. Returns the job's value. Closed before its end, this
    ends the job at its next report.
    """
    left, told, end = threading.Event(), SimpleQueue(), []

    def report(what: str, done: int, total: int) -> None:
        if left.is_set():
            raise Left
        told.put((what, done / max(total, 1)))

    def run() -> None:
        try:
            end.append((job(report), None))
        except BaseException as error:
            end.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(LIVE)
            now = None
            while not told.empty():
                now = told.get()
            if now:
                yield show(*now)
    finally:
        left.set()
    value, error = end[0]
    if error:
        raise error
    return value


class Left(Exception):
    """Nobody looks on any more."""


def steps_of(text: str, name: str = "the numbers of steps") -> list[int]:
    """Whole numbers from a text such as "10 20 50". Raises InputError."""
    words = str(text).replace(",", " ").split()
    if (
        not words
        or not all(word.isascii() and word.isdigit() and 0 < int(word) <= 10**6 for word in words)
        or len(words) > 12
    ):
        raise InputError(f"{name} are one to twelve whole numbers, such as 10 20 50; got {text!r:.60}")
    return list(dict.fromkeys(map(int, words)))


def whole(value: Any, name: str, least: int, most: int) -> int:
    """A whole number from a field of the page. Raises InputError."""
    if type(value) not in (int, float) or not least <= value <= most or value != int(value):
        raise InputError(f"{name} is a whole number from {least} to {most}; got {value}")
    return int(value)


def number(value: Any, name: str, least: float, most: float) -> float:
    """A number from a field of the page. Raises InputError."""
    if type(value) not in (int, float) or not least <= value <= most:
        raise InputError(f"{name} is a number from {least:g} to {most:g}; got {value}")
    return round(float(value), 4)
