"""Denoising Diffusion Implicit Models (Song, Meng & Ermon 2020): diffusion models that sample fast.

The public names are imported when they are first used, so that `import ddim` costs nothing.
"""

from typing import TYPE_CHECKING

from ddim.lazy import exports

__version__ = "0.1.0"

if TYPE_CHECKING:  # for editors and type checkers; a test holds it to the table below
    from ddim import images as data
    from ddim import plots, studio
    from ddim.checkpoints.loading import load
    from ddim.checkpoints.saving import save
    from ddim.diffusion import directions, noise, operators, process, schedule
    from ddim.diffusion.around import Around
    from ddim.diffusion.blending import between
    from ddim.diffusion.clipping import Clip
    from ddim.diffusion.facts import Facts
    from ddim.diffusion.guidance import Guidance, guided
    from ddim.diffusion.interpolation import interpolate, interpolate_ddpm, slerp, slerp_grid
    from ddim.diffusion.latents import decode, encode
    from ddim.diffusion.likelihood import likelihood
    from ddim.diffusion.model import Model
    from ddim.diffusion.neighbourhood import nearby
    from ddim.diffusion.process import Prediction
    from ddim.diffusion.restoration import inpaint, restore
    from ddim.diffusion.sampling import generate, sample
    from ddim.diffusion.solvers import SOLVERS, Solver, multistep
    from ddim.diffusion.steering import steered
    from ddim.diffusion.varying import relabel, vary
    from ddim.diffusion.walk import walk
    from ddim.errors import InputError
    from ddim.evaluation import features, metrics
    from ddim.evaluation.fid_grid import evaluate
    from ddim.evaluation.latent_law import latents_law
    from ddim.evaluation.likelihood_table import measure_likelihood
    from ddim.evaluation.reconstruction import reconstruct
    from ddim.evaluation.reproduction import reproduce
    from ddim.evaluation.step_consistency import consistency
    from ddim.evaluation.tuning import tune
    from ddim.images.summary import summarise
    from ddim.jobs.directions import directions_figure
    from ddim.jobs.latent_figures import diffusion_sequence, interpolation_figure
    from ddim.jobs.latent_jobs import decode_files, encode_files
    from ddim.jobs.neighbourhood import nearby_files
    from ddim.jobs.picking import picked
    from ddim.jobs.restoring import restore_files
    from ddim.jobs.sampling import sample_files
    from ddim.jobs.varying import vary_files
    from ddim.networks.acceleration.prepare import prepare
    from ddim.plots.batches import save_images, show
    from ddim.training.trainer import train

_HOMES = {
    "load": "checkpoints.loading",
    "save": "checkpoints.saving",
    "directions": "diffusion.directions",
    "noise": "diffusion.noise",
    "operators": "diffusion.operators",
    "process": "diffusion.process",
    "schedule": "diffusion.schedule",
    "Clip": "diffusion.clipping",
    "Around": "diffusion.around",
    "between": "diffusion.blending",
    "Guidance": "diffusion.guidance",
    "guided": "diffusion.guidance",
    "steered": "diffusion.steering",
    "interpolate": "diffusion.interpolation",
    "interpolate_ddpm": "diffusion.interpolation",
    "slerp": "diffusion.interpolation",
    "slerp_grid": "diffusion.interpolation",
    "decode": "diffusion.latents",
    "encode": "diffusion.latents",
    "likelihood": "diffusion.likelihood",
    "nearby": "diffusion.neighbourhood",
    "Facts": "diffusion.facts",
    "Model": "diffusion.model",
    "Prediction": "diffusion.process",
    "inpaint": "diffusion.restoration",
    "restore": "diffusion.restoration",
    "generate": "diffusion.sampling",
    "sample": "diffusion.sampling",
    "SOLVERS": "diffusion.solvers",
    "Solver": "diffusion.solvers",
    "multistep": "diffusion.solvers",
    "relabel": "diffusion.varying",
    "vary": "diffusion.varying",
    "walk": "diffusion.walk",
    "metrics": "evaluation.metrics",
    "features": "evaluation.features",
    "evaluate": "evaluation.fid_grid",
    "latents_law": "evaluation.latent_law",
    "measure_likelihood": "evaluation.likelihood_table",
    "reconstruct": "evaluation.reconstruction",
    "reproduce": "evaluation.reproduction",
    "consistency": "evaluation.step_consistency",
    "tune": "evaluation.tuning",
    "plots": "plots",
    "save_images": "plots.batches",
    "show": "plots.batches",
    "data": "images",
    "summarise": "images.summary",
    "picked": "jobs.picking",
    "sample_files": "jobs.sampling",
    "restore_files": "jobs.restoring",
    "vary_files": "jobs.varying",
    "directions_figure": "jobs.directions",
    "encode_files": "jobs.latent_jobs",
    "decode_files": "jobs.latent_jobs",
    "nearby_files": "jobs.neighbourhood",
    "interpolation_figure": "jobs.latent_figures",
    "diffusion_sequence": "jobs.latent_figures",
    "train": "training.trainer",
    "studio": "studio",
    "InputError": "errors",
    "prepare": "networks.acceleration.prepare",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = exports(__name__, _HOMES)
