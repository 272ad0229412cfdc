"""Figures from arrays: sheets of images, animations, curves."""

from ddim.plots.animations import animation
from ddim.plots.batches import save_images, show
from ddim.plots.curves import loss_curve
from ddim.plots.sheets import by_class, enlargement, grid, read, rows, save, to_pil

__all__ = [
    "animation", "by_class", "enlargement", "grid", "loss_curve", "read", "rows", "save", "save_images", "show",
    "to_pil",
]  # fmt: skip
