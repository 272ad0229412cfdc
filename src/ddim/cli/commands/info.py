"""ddim info: what a model is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from ddim.checkpoints.options import Options
from ddim.cli.options import ModelName, parse
from ddim.cli.records import AsJson, print_json
from ddim.system.messages import say

EXAMPLES = (
    "ddim info digits",
    "ddim info model-790000.ckpt --image-size 32",
)


@dataclass(frozen=True)
class Info:
    """Parameters, shape, noise schedule, origin, and what its folder says of sampling."""

    model: ModelName
    """A bundled name, a run or model folder, a Hub id, or a file of weights."""
    weights: Options = field(default_factory=Options)
    report: AsJson = AsJson()


def main(args: Sequence[str]) -> None:
    o = parse(Info, "info", args)
    from ddim.checkpoints.loading import load

    model = load(o.model, "cpu", **asdict(o.weights))
    if o.report.json:
        print_json(record(model))
    else:
        for name, value in described(model).items():
            say(f"{name:23} {value}")


def record(model) -> dict[str, object]:
    """What there is to say of a model, as numbers, lists and objects."""
    from ddim.checkpoints.scheduler_config import beta_config

    facts = model.facts
    said = ("source", "layout", "averaged", "preset", "data", "images", "scheduler", "assumed", "notes")
    return {
        **{name: getattr(facts, name) for name in said},
        **{"parameters": sum(p.numel() for p in model.network.parameters()), "shape": list(model.shape)},
        **{"classes": list(model.classes), "null_label": model.null_label},
        **{"predicts": model.predicts, "learns_variance": model.learns_variance, "T": model.T},
        **{"schedule": beta_config(model.abar), "abar_T": model.abar[-1].item(), "fingerprint": model.fingerprint},
        **{"tuned_steps": sorted(facts.tuning.solvers) if facts.tuning else []},
        "network": asdict(model.network.config),
    }


def classes(model) -> str:
    """The classes of a model, by their number, and whether it makes images of none too."""
    few = ", ".join(model.classes[:20]) + (" …" if len(model.classes) > 20 else "")
    return f"{len(model.classes)}: {few}" + ("" if model.null_label is None else "; or none")


def tuned_for(model) -> str:
    """The numbers of steps that a model has tuned solvers for."""
    of = "" if model.facts.tuning.model == model.fingerprint else "; of other weights, so `ddim tune` again"
    return f"{', '.join(map(str, sorted(model.facts.tuning.solvers)))} steps{of}"


def described(model) -> dict[str, object]:
    """What there is to say of a model, by name."""
    from ddim.checkpoints.scheduler_config import beta_config

    betas, last, facts = beta_config(model.abar), model.abar[-1], model.facts
    channels, height, width = model.shape
    known = {name: value for name, value in vars(facts).items() if value not in (None, {}, "fp32")}
    elsewhere = ("assumed", "scheduler", "notes", "images", "classes", "tuning")
    assumed = ", ".join(f"{name} {value}" for name, value in facts.assumed.items())
    return {
        "parameters": f"{sum(p.numel() for p in model.network.parameters()):,}",
        "images": f"{height}×{width}, {'greyscale' if channels == 1 else 'RGB' if channels == 3 else channels}",
        **({"classes": classes(model)} if model.classes else {}),
        "predicts": model.predicts + (" and the variance of a step" if model.learns_variance else ""),
        "noise levels": f"T = {model.T}",
        "schedule": f"{betas['beta_schedule'] if betas['trained_betas'] is None else 'a list of β'}, "
        f"β {betas['beta_start']:g} … {betas['beta_end']:g}",
        "at t = T": f"√ᾱ = {last.sqrt():.4f}, √(1−ᾱ) = {(1 - last).sqrt():.4f}",
        "fingerprint": model.fingerprint,
        **{name: value for name, value in known.items() if name not in elsewhere},
        **({"trained on": f"{facts.images:,} images"} if facts.images else {}),
        **({"tuned for": tuned_for(model)} if facts.tuning else {}),
        **({"assumed": assumed} if assumed else {}),
        **facts.notes,
        **{f"scheduler.{name}": value for name, value in facts.scheduler.items() if name != "trained_betas"},
        **{name: value for name, value in asdict(model.network.config).items() if value is not None},
    }
