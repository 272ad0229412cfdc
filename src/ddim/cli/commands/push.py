"""ddim push: a model on the Hub, with a card."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tyro.conf import Positional

from ddim.cli.commands import ModelName, parse
from ddim.errors import InputError

CARD = """# {name}

A denoising diffusion model of {size} pictures that samples fast with
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


@dataclass(frozen=True)
class Push:
    """Put a model on the Hub: weights, configs, and a card with samples, settings and what `ddim evaluate` measured."""

    model: ModelName
    """A run or model folder, or a bundled name."""
    hub_id: Positional[str]
    """USER/NAME; made where there is none."""
    private: bool = False
    """Make it for yourself and those you choose only."""
    metrics: Path | None = None
    """A table.md of `ddim evaluate` for the card; by default the one in the model's folder, if there is one."""
    steps: int = 50
    """Network evaluations of each sample on the card."""
    seed: int = 0
    """Of the samples on the card."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps…; by default a GPU where there is one."""


def main(args: Sequence[str]) -> None:
    o = parse(Push, "push", args)
    import tempfile
    from dataclasses import replace

    from ddim.checkpoints import folders as checkpoint
    from ddim.diffusion.sampling import check_eta, generate, grid
    from ddim.plots import sheets as plot
    from ddim.system.progress import progress

    if o.hub_id.count("/") != 1 or not all(o.hub_id.split("/")):
        raise InputError(f"{o.hub_id}: not a Hub id; give USER/NAME")
    model = checkpoint.load(o.model, o.device)
    metrics = o.metrics or Path(o.model) / "table.md"
    if o.metrics and not o.metrics.is_file():
        raise InputError(f"{o.metrics}: no such file")
    times, n = grid(model, min(o.steps, model.T)), 16
    check_eta(model.abar, times, 0.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        info = {key: shareable(value) for key, value in model.info.items() if key != "source"}
        checkpoint.save(replace(model, info=info), folder)
        with progress("sampling", len(times) - 1) as advance:
            for x, _ in generate(model, range(n), times, 0.0, o.seed):
                advance()
        plot.save(plot.grid(x), folder / "samples.png")
        told = metrics.read_text() if metrics.is_file() else ""
        (folder / "README.md").write_text(card(model, o, n, len(times) - 1, told))
        print(f"model: {upload(folder, o)}")


def shareable(value):
    """A setting, without the folders of this machine where it is a path."""
    return Path(value).name if isinstance(value, str) and Path(value).expanduser().exists() else value


def card(model, o: Push, n: int, steps: int, metrics: str) -> str:
    """The model card: what the Hub reads on top, then samples, settings and measurements for people."""
    from huggingface_hub import ModelCardData

    from ddim.checkpoints import folders as checkpoint
    from ddim.networks.unet import UNetConfig

    # Only a network that diffusers has is announced as one that it opens.
    plain = type(model.network.config) is UNetConfig
    data = ModelCardData(
        library_name="diffusers" if plain else "ddim",
        pipeline_tag="unconditional-image-generation",
        tags=["ddim", "diffusion", "unconditional-image-generation"],
    )
    train = Path(o.model) / "train.json"
    settings = checkpoint.read_json(train) if train.is_file() else asdict(model.network.config)
    channels, height, width = model.shape
    kind = {1: "greyscale", 3: "RGB"}.get(channels, f"{channels}-channel")
    opened = f'`diffusers.DDIMPipeline.from_pretrained("{o.hub_id}")` opens it too.\n' if plain else ""
    # As a part of the card: headings a level or two down, and no figures, which may show training pictures.
    measured = re.sub(r"^!\[.*\n?", "", re.sub(r"^#", "###", metrics, flags=re.MULTILINE), flags=re.MULTILINE)
    body = CARD.format(
        name=o.hub_id,
        size=f"{height}×{width} {kind}",
        n=n,
        steps=steps,
        seed=o.seed,
        diffusers=opened,
        settings="\n".join(f"| {name} | {shareable(value)} |" for name, value in settings.items()),
        metrics=f"\n## Measured\n\n{measured}" if measured else "",
    )
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def upload(folder: Path, o: Push) -> str:
    """Put the folder's files into the Hub's model, in one commit. Returns its address. Raises InputError."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        url = api.create_repo(o.hub_id, private=o.private or None, exist_ok=True)
        api.upload_folder(repo_id=o.hub_id, folder_path=folder, commit_message=f"ddim push {o.hub_id}")
    except Exception as error:  # the Hub's own errors, and the network's
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"{o.hub_id}: the Hub did not take it ({reason}); have you run `hf auth login`?") from error
    return str(url)
