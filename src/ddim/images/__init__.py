"""Real images: where they come from (`find`), how they become bytes, the cache, the order of training."""

from ddim.images.batches import batches, order
from ddim.images.cache import load
from ddim.images.image_set import ArrayImages, ImageSet
from ddim.images.labels import Labels
from ddim.images.pixels import fit, to_float, to_uint8
from ddim.images.selection import Selection
from ddim.images.sources import find
from ddim.images.summary import Summary, summarise

__all__ = [
    "ArrayImages", "ImageSet", "Labels", "Selection", "Summary", "batches", "find", "fit", "load", "order", "summarise",
    "to_float", "to_uint8",
]  # fmt: skip
