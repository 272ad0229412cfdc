"""Measuring: feature networks and distances, the paper's tables and figures, each one and all at once; tuning."""

from typing import TYPE_CHECKING

from ddim.lazy import exports

if TYPE_CHECKING:
    from ddim.evaluation import features, metrics
    from ddim.evaluation.fid_grid import evaluate
    from ddim.evaluation.latent_law import latents_law
    from ddim.evaluation.likelihood_table import measure_likelihood
    from ddim.evaluation.reconstruction import reconstruct
    from ddim.evaluation.reproduction import reproduce
    from ddim.evaluation.step_consistency import consistency
    from ddim.evaluation.tuning import tune

_HOMES = {
    "features": "features",
    "metrics": "metrics",
    "evaluate": "fid_grid",
    "latents_law": "latent_law",
    "measure_likelihood": "likelihood_table",
    "reconstruct": "reconstruction",
    "reproduce": "reproduction",
    "consistency": "step_consistency",
    "tune": "tuning",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = exports(__name__, _HOMES)
