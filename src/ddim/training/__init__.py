"""Training: settings and presets, the loss and the steps, the run folder, and `train`, which puts them together."""

from typing import TYPE_CHECKING

from ddim.lazy import exports

if TYPE_CHECKING:
    from ddim.training.presets import PRESETS
    from ddim.training.settings import Settings
    from ddim.training.trainer import Trained, train

_HOMES = {"PRESETS": "presets", "Settings": "settings", "Trained": "trainer", "train": "trainer"}

__all__ = list(_HOMES)
__getattr__, __dir__ = exports(__name__, _HOMES)
