"""Denoising Diffusion Implicit Models (Song, Meng & Ermon 2020): diffusion models that sample fast.

The public names are imported when they are first used, so that `import ddim` costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "load": "checkpoints.folders",
    "save": "checkpoints.folders",
    "sample": "diffusion.sampling",
    "walk": "diffusion.sampling",
    "encode": "diffusion.latents",
    "decode": "diffusion.latents",
    "slerp": "diffusion.latents",
    "interpolate": "diffusion.latents",
    "encode_pair": "diffusion.inversion",
    "decode_pair": "diffusion.inversion",
    "Prediction": "diffusion.process",
    "Model": "diffusion.model",
    "InputError": "errors",
}
_ROOMS = {
    "schedule": "diffusion.schedule",
    "process": "diffusion.process",
    "noise": "diffusion.noise",
    "plots": "plots.sheets",
    "metrics": "evaluation.metrics",
    "features": "evaluation.features",
}

__all__ = [*_HOMES, *_ROOMS]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f"ddim.{_HOMES[name]}"), name)
    if name in _ROOMS:
        return import_module(f"ddim.{_ROOMS[name]}")
    raise AttributeError(f"module 'ddim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
