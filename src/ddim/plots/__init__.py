"""Figures from arrays: sheets of images, animations, curves."""

from ddim.plots.animations import animation
from ddim.plots.curves import loss_curve
from ddim.plots.sheets import enlargement, grid, picture, read, rows, save

__all__ = ["animation", "enlargement", "grid", "loss_curve", "picture", "read", "rows", "save"]
