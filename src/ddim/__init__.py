"""Denoising Diffusion Implicit Models (Song, Meng & Ermon 2020): diffusion models that sample fast.

The public names are imported when they are first used, so that `import ddim` costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "load": "checkpoint",
    "save": "checkpoint",
    "sample": "sampler",
    "walk": "sampler",
    "encode": "latent",
    "decode": "latent",
    "slerp": "latent",
    "interpolate": "latent",
    "encode_pair": "inversion",
    "decode_pair": "inversion",
    "Prediction": "process",
    "Model": "model",
    "InputError": "errors",
}
_ROOMS = (
    *("options", "schedule", "process", "noise", "blocks", "unet", "lucidrains", "model", "sampler", "inversion"),
    *("latent", "presets", "data", "config", "weights", "convert", "official", "foreign", "checkpoint"),
    *("features", "metrics", "train", "run", "plot", "job"),
)

__all__ = [*_HOMES, *_ROOMS]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f"ddim.{_HOMES[name]}"), name)
    if name in _ROOMS:
        return import_module(f"ddim.{name}")
    raise AttributeError(f"module 'ddim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
