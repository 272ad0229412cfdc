"""The images that a tab works on: those sampled last, uploaded ones, and some from the data, to choose from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from torch import Tensor

from ddim.diffusion.model import Model
from ddim.errors import InputError
from ddim.images.pixels import to_float, to_uint8
from ddim.images.selection import Selection
from ddim.studio import render
from ddim.studio.settings import Studio
from ddim.studio.ways import Drawn
from ddim.studio.work import html, view, whole

KEPT = 32  # images besides the sampled ones


@dataclass(frozen=True)
class Given:
    """An image as the model sees it, and what the lines to copy call it."""

    name: str  # of its file
    image: Tensor = field(repr=False)  # (C, H, W) uint8
    seed: int | None = None  # where it was sampled
    number: int | None = None

    @property
    def batch(self) -> Tensor:
        """(1, C, H, W) float32 in [−1, 1]."""
        return to_float(self.image[None])


def given_of(drawn: Drawn | None) -> list[Given]:
    """What was sampled last, under the names that `ddim sample` gives it."""
    if drawn is None:
        return []
    images, seed = to_uint8(drawn.images), drawn.way.seed
    return [Given(f"{k:05d}.png", image, seed, k) for k, image in enumerate(images)]


def uploaded(path: str, model: Model) -> Given:
    """A file that was uploaded, decoded as all images are. Raises InputError."""
    name = Path(path).name
    try:
        return Given(name, to_uint8(Selection([path], model.shape).batch(range(1)))[0])
    except InputError as error:
        raise InputError(str(error).replace(path, name).partition("; remove it")[0]) from None


def from_data(studio: Studio, model: Model, number: Any) -> Given:
    """An image of the data, by its number. Raises InputError."""
    images = studio.images(model)
    k = whole(number, "the number of the image", 0, len(images) - 1)
    source = Path(studio.data or model.facts.data or "data")
    return Given(f"{source.name.partition('.')[0]}-{k}.png", images[k])


class Tray:
    """The components of a tray in a tab. most: how many images can be chosen of it."""

    def __init__(self, studio: Studio, model: gr.Dropdown, drawn: gr.State, given: gr.State, most: int = 1):
        self.studio, self.most, self.drawn, self.given = studio, most, drawn, given
        self.chosen = gr.State([])
        self.note = html(render.note(self.hint()))
        self.sheet = html("", js_on_load=render.CHOOSE, elem_classes="tray")
        with gr.Row(elem_classes="fields"):
            upload = gr.UploadButton("Upload…", file_count="multiple", file_types=["image"], min_width=90)
            number = gr.Number(0, show_label=False, label="number in the data", precision=0, minimum=0, min_width=60)
            take = gr.Button("From data", min_width=100)
        self.shown = [self.sheet, self.given, self.chosen]
        state = [model, drawn, given, self.chosen]
        view(upload.upload, self.note, self.uploads, [upload, *state], self.shown, ordered=True)
        view(take.click, self.note, self.takes, [number, *state], self.shown, ordered=True)
        view(self.sheet.select, self.note, self.toggling(), state, self.shown, ordered=True)

    def opened_by(self, tab: gr.Tab) -> None:
        """Look at the images again when the tab is opened."""
        view(tab.select, self.note, self.refresh, [self.drawn, self.given, self.chosen], self.shown, ordered=True)

    def hint(self) -> str:
        return "Choose two or four images." if self.most > 1 else "Choose an image."

    def html(self, drawn: Drawn | None, given: Sequence[Given], chosen: Sequence[int]) -> str:
        every = [*given_of(drawn), *given]
        return render.sheet([one.image for one in every], chosen, columns=8 if len(every) > 4 else 4) if every else ""

    def refresh(self, drawn: Drawn | None, given: list[Given], chosen: list[int]):
        """When the tab is opened: other tabs may have sampled or uploaded."""
        there = len(given_of(drawn)) + len(given)
        yield self.now(drawn, given, [k for k in chosen if k < there])

    def uploads(self, paths: list[str], name: str, drawn, given, chosen):
        model = self.studio.model(name)
        yield from self.add([uploaded(path, model) for path in paths[:KEPT]], drawn, given, chosen)

    def takes(self, number: Any, name: str, drawn, given, chosen):
        yield from self.add([from_data(self.studio, self.studio.model(name), number)], drawn, given, chosen)

    def add(self, new: list[Given], drawn, given, chosen):
        """Add images to the tray, and choose them where there is room."""
        if len(given) + len(new) > KEPT:
            raise InputError(f"a tray holds {KEPT} images: reload the page for an empty one")
        first, given = len(given_of(drawn)) + len(given), [*given, *new]
        added = [*range(first, first + len(new))]
        chosen = added[-1:] if self.most == 1 else [*chosen, *added][: self.most]
        yield self.now(drawn, given, chosen)

    def toggling(self):
        """The handler of a click on an image."""

        def toggle(name: str, drawn, given, chosen, event: gr.EventData):
            k = whole(event.index, "an image", 0, len(given_of(drawn)) + len(given) - 1)
            if self.most == 1:
                chosen = [k]
            else:
                chosen = [c for c in chosen if c != k] if k in chosen else [*chosen, k][-self.most :]
            yield self.now(drawn, given, chosen)

        return toggle

    def now(self, drawn, given, chosen) -> dict:
        text = self.hint() if self.most == 1 or len(chosen) not in (2, 4) else f"{len(chosen)} images chosen."
        html = self.html(drawn, given, chosen)
        return {self.note: render.note(text), self.sheet: html, self.given: given, self.chosen: chosen}

    @staticmethod
    def of(drawn, given: list[Given], chosen: list[int]) -> list[Given]:
        """The chosen images, in the order in which they were chosen."""
        every = [*given_of(drawn), *given]
        return [every[k] for k in chosen if k < len(every)]
