"""ddim info: what a model is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from ddim.checkpoints.options import Options
from ddim.cli.commands import ModelName, parse


@dataclass(frozen=True)
class Info:
    """Tell what a model is: parameters, shape, schedule, origin."""

    model: ModelName
    """A bundled name, a run or model folder, a Hub id, or a file of weights."""
    options: Options = field(default_factory=Options)


def main(args: Sequence[str]) -> None:
    o = parse(Info, "info", args)
    from ddim.checkpoints import folders as checkpoint

    model = checkpoint.load(o.model, "cpu", **asdict(o.options))
    betas = checkpoint.beta_config(model.abar)
    channels, height, width = model.shape
    last = model.abar[-1]
    rows = {
        "parameters": f"{sum(p.numel() for p in model.network.parameters()):,}",
        "pictures": f"{height}×{width}, {'greyscale' if channels == 1 else 'RGB' if channels == 3 else channels}",
        "predicts": model.predicts,
        "noise levels": f"T = {model.T}",
        "schedule": f"{betas['beta_schedule'] if betas['trained_betas'] is None else 'a list of β'}, "
        f"β {betas['beta_start']:g} … {betas['beta_end']:g}",
        "at t = T": f"√ᾱ = {last.sqrt():.4f}, √(1−ᾱ) = {(1 - last).sqrt():.4f}",
        "fingerprint": checkpoint.fingerprint(model),
        **model.info,
        **asdict(model.network.config),
    }
    for name, value in rows.items():
        print(f"{name:24}{value}")
