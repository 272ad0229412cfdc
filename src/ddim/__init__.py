"""Denoising Diffusion Implicit Models (Song, Meng & Ermon 2020): diffusion models that sample fast.

The public names are imported when they are first used, so that `import ddim` costs nothing.
"""

from typing import TYPE_CHECKING

from ddim.lazy import exports

__version__ = "0.1.0"

if TYPE_CHECKING:  # for editors and type checkers; a test holds it to the table below
    from ddim.checkpoints.loading import load
    from ddim.checkpoints.saving import save
    from ddim.diffusion import noise, process, schedule
    from ddim.diffusion.clipping import Clip
    from ddim.diffusion.facts import Facts
    from ddim.diffusion.interpolation import interpolate, interpolate_ddpm, slerp, slerp_grid
    from ddim.diffusion.latents import decode, encode
    from ddim.diffusion.model import Model
    from ddim.diffusion.process import Prediction
    from ddim.diffusion.sampling import generate, sample
    from ddim.diffusion.solvers import SOLVERS, Solver, multistep
    from ddim.diffusion.walk import walk
    from ddim.errors import InputError
    from ddim.networks.acceleration.prepare import prepare

_HOMES = {
    "load": "checkpoints.loading",
    "save": "checkpoints.saving",
    "noise": "diffusion.noise",
    "process": "diffusion.process",
    "schedule": "diffusion.schedule",
    "Clip": "diffusion.clipping",
    "interpolate": "diffusion.interpolation",
    "interpolate_ddpm": "diffusion.interpolation",
    "slerp": "diffusion.interpolation",
    "slerp_grid": "diffusion.interpolation",
    "decode": "diffusion.latents",
    "encode": "diffusion.latents",
    "Facts": "diffusion.facts",
    "Model": "diffusion.model",
    "Prediction": "diffusion.process",
    "generate": "diffusion.sampling",
    "sample": "diffusion.sampling",
    "SOLVERS": "diffusion.solvers",
    "Solver": "diffusion.solvers",
    "multistep": "diffusion.solvers",
    "walk": "diffusion.walk",
    "InputError": "errors",
    "prepare": "networks.acceleration.prepare",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = exports(__name__, _HOMES)
