"""A way to sample, as the fields of the page say it, and what was sampled so."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from torch import Tensor

from ddim.diffusion.course import Course, sampling_course
from ddim.diffusion.guidance import labels_of
from ddim.diffusion.model import Model
from ddim.diffusion.sampling import chunks, default_batch_size, generate
from ddim.diffusion.schedule import LEVEL_SPACINGS
from ddim.diffusion.solvers import SOLVERS, TUNED
from ddim.diffusion.spacings import SPACINGS
from ddim.studio.recipes import Origin, Recipe, arguments
from ddim.studio.work import MOST, number, whole

AUTO = "auto"
NOT_SAMPLING = ("implicit", "unipc2")  # for encoding alone; another name of unipc


@dataclass(frozen=True)
class Way:
    """A way to sample, as the page's fields say it. None and 0 are what the command takes by itself."""

    seed: int = 0
    n: int = 16
    steps: int | None = None
    solver: str | None = None
    spacing: str | None = None
    eta: float | None = None  # what the model is sampled with by default: 0, or 1 for a young network
    variance: str = "small"
    clip: bool | None = None
    label: str | None = None
    guidance: float = 1.0

    @classmethod
    def of(cls, model: Model, seed, n, steps, solver, spacing, eta, large, clip, label, guidance) -> "Way":
        """From the fields of the page. Raises InputError."""
        label = None if not model.classes or label in (None, "", "none") else str(label)
        return cls(
            whole(seed, "the seed", 0, 2**53), whole(n, "the number of images", 1, MOST),
            None if steps in (None, 0, "") else whole(steps, "the number of steps", 1, model.T),
            None if solver == AUTO else solver, None if spacing == AUTO else spacing, number(eta, "η", 0, 1) or None,
            "large" if large and eta else "small", {AUTO: None, "on": True, "off": False}[clip], label,
            1.0 if label is None else number(guidance, "guidance", 0, 100),
        )  # fmt: skip

    def course(self, model: Model) -> Course:
        return sampling_course(model, self.steps, self.spacing, None, self.solver, self.eta, self.variance)

    def said(self, **others: Any) -> dict[str, Any]:
        """The options that say it."""
        return {**vars(self), **others}

    def walks(self, model: Model, path: list, solver) -> Iterator[tuple[range, Any]]:
        """The walk of each batch, as `ddim.sample` makes them."""
        labels = None if self.label is None else labels_of(model, self.label, self.n)
        eta = self.course(model).eta
        for indices in chunks(self.n, default_batch_size(model)):
            given = None if labels is None else labels[indices.start : indices.stop]
            how = (eta, self.seed, None, self.clip, solver, self.variance, None, given, self.guidance)
            yield indices, generate(model, indices, path, *how)


@dataclass(frozen=True)
class Drawn:
    """What was sampled last in this browser."""

    origin: Origin
    way: Way
    images: Tensor = field(repr=False)  # (n, C, H, W) in [−1, 1]

    def recipe(self, chosen: int | None = None) -> Recipe:
        """The lines that give it; chosen: the number of the image that is looked at."""
        words = self.way.said(spacing=self.way.spacing)
        command = self.origin.command("sample", n=self.way.n, **{k: v for k, v in words.items() if k != "n"})
        python = self.origin.python() + f"images = ddim.sample(model, n={self.way.n}"
        python += arguments({k: v for k, v in words.items() if k != "n"}) + ")\n"
        if chosen is None:
            return Recipe(command, python + 'ddim.plots.save(ddim.plots.grid(images), "sheet.png")')
        command += f"   # then: {chosen:05d}.png in the folder that it names"
        return Recipe(command, python + f'ddim.plots.save(ddim.plots.to_pil(images[{chosen}]), "{chosen:05d}.png")')


def solvers_of(model: Model) -> list[str]:
    """The solvers that a model can be sampled with, by name."""
    names = [name for name in SOLVERS if name not in NOT_SAMPLING]
    return [AUTO, *names, *([TUNED] if model.facts.tuning else [])]


def labels_for(model: Model) -> list[str]:
    """The labels that can be chosen."""
    none = ["none"] if model.null_label is not None else []
    return [*none, "all", *model.classes] if model.classes else ["none"]


def classes_for(model: Model) -> list[str]:
    """The classes that an image can be of."""
    return list(model.classes) or ["none"]


def fields(model: Model) -> list[gr.components.Component]:
    """The fields of a way, in the order that `Way.of` takes them."""
    with gr.Row(elem_classes="fields"):
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=90, info="of all noise")
        steps = gr.Number(10, label="Steps", precision=0, minimum=1, min_width=90, info="S; DDPM has T")
    n = gr.Slider(1, MOST, 16, step=1, label="Images")
    with gr.Row(elem_classes="fields"):
        solver = gr.Dropdown(
            solvers_of(model), value=AUTO, label="Solver", info="how a step is made", min_width=110, filterable=False
        )
        spacing = gr.Dropdown(
            [AUTO, *SPACINGS, *LEVEL_SPACINGS],
            value=AUTO,
            label="Grid",
            info="where the steps are",
            min_width=110,
            filterable=False,
        )
    eta = gr.Slider(
        0, 1, 0, step=0.05, label="η, noise in each step", info="0 is DDIM, 1 is DDPM; a young model has 1 for 0"
    )
    large = gr.Checkbox(False, label="σ̂", info="DDPM's larger noise, √β; for η = 1")
    clip = gr.Radio([AUTO, "on", "off"], value=AUTO, label="Clip x̂₀", info="keep the expected image in range")
    known = bool(model.classes)
    with gr.Row(elem_classes="fields"):
        label = gr.Dropdown(
            labels_for(model), value=labels_for(model)[0], label="Class", min_width=110, visible=known, filterable=False
        )
        guidance = gr.Slider(0, 8, 1, step=0.5, label="Guidance", min_width=110, visible=known)
    return [seed, n, steps, solver, spacing, eta, large, clip, label, guidance]


def changed(found: list[gr.components.Component], model: Model) -> dict:
    """What another model changes of the fields."""
    _, _, steps, solver, *_, label, guidance = found
    known, labels = bool(model.classes), labels_for(model)
    return {
        steps: gr.update(maximum=model.T), solver: gr.update(choices=solvers_of(model), value=AUTO),
        label: gr.update(choices=labels, value=labels[0], visible=known), guidance: gr.update(visible=known),
    }  # fmt: skip
