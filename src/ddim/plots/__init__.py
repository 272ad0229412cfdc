"""Figures from arrays: sheets of images, animations, curves."""

from ddim.plots.animations import animation
from ddim.plots.curves import loss_curve
from ddim.plots.sheets import enlargement, grid, read, rows, save, to_pil

__all__ = ["animation", "enlargement", "grid", "loss_curve", "read", "rows", "save", "to_pil"]
