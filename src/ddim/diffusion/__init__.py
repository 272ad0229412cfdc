"""The mathematics: schedules, the forward process, noise, models, the walk with its solvers, sampling and latents.

Equation numbers are those of Song, Meng & Ermon 2020 (arXiv 2010.02502). Nothing here knows files or networks.
"""

from ddim.diffusion.clipping import Clip, Clipped, clipping
from ddim.diffusion.facts import Facts
from ddim.diffusion.guidance import Labelled, guided
from ddim.diffusion.interpolation import interpolate, interpolate_ddpm, slerp, slerp_grid
from ddim.diffusion.latents import decode, encode
from ddim.diffusion.likelihood import likelihood
from ddim.diffusion.model import Denoiser, Model
from ddim.diffusion.neighbourhood import nearby, neighbours
from ddim.diffusion.process import Prediction
from ddim.diffusion.sampling import generate, sample
from ddim.diffusion.solvers import SOLVERS, Solver, multistep
from ddim.diffusion.walk import Moment, walk

__all__ = [
    "SOLVERS", "Clip", "Clipped", "Denoiser", "Facts", "Labelled", "Model", "Moment", "Prediction", "Solver",
    "clipping", "decode", "encode", "generate", "guided", "interpolate", "interpolate_ddpm", "likelihood",
    "multistep", "nearby", "neighbours", "sample", "slerp", "slerp_grid", "walk",
]  # fmt: skip
