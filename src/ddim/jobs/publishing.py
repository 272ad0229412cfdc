"""A model on the Hub, with a card."""

import re
import tempfile
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from ddim.checkpoints.saving import save
from ddim.diffusion.course import sampling_course
from ddim.diffusion.facts import Facts
from ddim.diffusion.guidance import in_turn
from ddim.diffusion.model import Model
from ddim.diffusion.sampling import generate
from ddim.errors import InputError
from ddim.jobs.bars import bar
from ddim.networks.blocks import UNetConfig
from ddim.plots import sheets
from ddim.system.json import read_json

SHOWN = 16  # samples on the card
PATHS = ("data", "source", "reference", "held_out", "out")  # settings that can name what lies on this machine
CARD = """# {name}

A denoising diffusion model of {size} images that samples fast with
[DDIM](https://arxiv.org/abs/2010.02502). {n} samples with {steps} steps, η = 0, seed {seed}, not chosen:

![a grid of samples](samples.png)

```
ddim sample {name} --steps {steps}
```

{diffusers}
## Settings

| | |
|---|---|
{settings}
{metrics}"""


def check_hub_id(hub_id: str) -> None:
    """Raise InputError unless it is USER/NAME."""
    if hub_id.count("/") != 1 or not all(hub_id.split("/")):
        raise InputError(f"{hub_id}: not a Hub id; give USER/NAME")


@torch.no_grad()
def push(
    model: Model,
    hub_id: str,
    source: str = "",
    private: bool = False,
    metrics: str | Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> str:
    """Put a model on the Hub with a card: 16 samples of `steps` steps and `seed`, settings, and the table `metrics`.

    source: the folder that it was loaded from, whose train.json and table.md the card shows. Nothing that names a place
    on this machine is published. Returns the address. Raises InputError.
    """
    check_hub_id(hub_id)
    table = Path(metrics) if metrics else Path(source) / "table.md"
    if metrics and not table.is_file():
        raise InputError(f"{table}: no such file")
    times, solver, _, _, eta = sampling_course(model, None if steps is None else min(steps, model.T))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(replace(model, facts=shareable_facts(model.facts)), folder)
        with bar("sampling", len(times) - 1, progress) as advance:
            labels = in_turn(model, SHOWN) if model.classes else None
            n = SHOWN if labels is None else len(labels)
            for moment in generate(model, range(n), times, eta, seed, label=labels, solver=solver):
                advance()
        sheet = sheets.grid(moment.x) if labels is None else sheets.by_class(moment.x, labels, model.classes)
        sheets.save(sheet, folder / "samples.png")
        measured = table.read_text(encoding="utf-8") if table.is_file() else ""
        text = card(model, hub_id, source, n, len(times) - 1, seed, measured)
        (folder / "README.md").write_text(text, encoding="utf-8")
        return upload(folder, hub_id, private)


PATH = re.compile(  # what looks like a place on a machine: from a root, a home, a drive, a share, or here
    r"(?<![\w/\\:.])(?:file:/+|~[\w.-]*[/\\]|\.{1,2}[/\\]|/(?=[^\s/|)])|[A-Za-z]:[/\\]|\\\\)[^|)\]\"'<>,;`\n]*"
)


def shareable(name: str, value: Any) -> Any:
    """A setting, without the folders of this machine: of what is, or looks like, a path its last part alone; within
    lists and objects too.
    """
    if isinstance(value, dict):
        return {without_paths(str(key)): shareable(str(key), inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [shareable(name, inside) for inside in value]
    if not isinstance(value, str):
        return value
    looks = (
        value.startswith(("/", "~", ".", "\\", "file:")) or re.match(r"[A-Za-z]:[\\/]", value) or value.count("/") > 1
    )
    if looks or (name in PATHS and Path(value.partition(":")[0]).expanduser().exists()):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return without_paths(value)


def without_paths(text: str) -> str:
    """Text with the last part alone of each path in it; a path ends at a quote, a bracket, a cell or a line."""

    def name(found: re.Match) -> str:
        path = found[0].rstrip()
        return re.split(r"[\\/]", path.rstrip("\\/"))[-1] + found[0][len(path) :]

    return PATH.sub(name, text)


def shareable_facts(facts: Facts) -> Facts:
    """What is known of a model, without the folders of this machine."""
    public = {field.name: shareable(field.name, getattr(facts, field.name)) for field in fields(Facts)}
    return Facts(**public | {"source": None, "clip": facts.clip, "classes": facts.classes})


def card(model: Model, hub_id: str, source: str, n: int, steps: int, seed: int, metrics: str) -> str:
    """The model card: what the Hub reads on top, then samples, settings and measurements for people."""
    from huggingface_hub import ModelCardData

    # Only a network that diffusers has is announced as one that it opens.
    plain = type(model.network.config) is UNetConfig
    data = ModelCardData(
        library_name="diffusers" if plain else "ddim",
        pipeline_tag="unconditional-image-generation",
        tags=["ddim", "diffusion", f"{'class-' if model.classes else 'un'}conditional-image-generation"],
    )
    train = Path(source) / "train.json"
    settings = read_json(train) if train.is_file() else asdict(model.network.config)
    channels, height, width = model.shape
    kind = {1: "greyscale", 3: "RGB"}.get(channels, f"{channels}-channel")
    # As a part of the card: headings a level or two down, no figures, which may show training images, and no paths.
    measured = re.sub(r"^!\[.*\n?", "", re.sub(r"^#", "###", metrics, flags=re.MULTILINE), flags=re.MULTILINE)
    measured = without_paths(measured)
    body = CARD.format(
        name=hub_id,
        size=f"{height}×{width} {kind}",
        n=n,
        steps=steps,
        seed=seed,
        diffusers=opening(model, hub_id, plain),
        settings="\n".join(f"| {name} | {shareable(name, value)} |" for name, value in settings.items()),
        metrics=f"\n## Measured\n\n{measured}" if measured else "",
    )
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def opening(model: Model, hub_id: str, plain: bool) -> str:
    """What the card says of the classes of a model, and of diffusers, where that opens it (`plain`)."""
    if not model.classes:
        return f'`diffusers.DDIMPipeline.from_pretrained("{hub_id}")` opens it too.\n' if plain else ""
    few = ", ".join(model.classes[:50]) + (" …" if len(model.classes) > 50 else "")
    none = "" if model.null_label is None else f"; label {model.null_label} of the network stands for no class"
    text = f"`--label NAME` chooses one of {len(model.classes)} classes: {few}{none}.\n"
    if plain:
        text += f'\n`diffusers.UNet2DModel.from_pretrained("{hub_id}", subfolder="unet")` opens its network, which\n'
        text += "takes `class_labels`; no pipeline of diffusers tells it any.\n"
    return text


def upload(folder: Path, hub_id: str, private: bool) -> str:
    """Put the folder's files into the Hub's model, in one commit. Returns its address. Raises InputError."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        url = api.create_repo(hub_id, private=private or None, exist_ok=True)
        api.upload_folder(repo_id=hub_id, folder_path=folder, commit_message=f"ddim push {hub_id}")
    except Exception as error:  # the Hub's own errors, and the network's
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"{hub_id}: the Hub did not take it ({reason}); have you run `hf auth login`?") from error
    return str(url)
