"""Faster forms of a network, for sampling only: `prepare` chooses among them.

Packed and folded convolutions, 8-bit convolutions, compiling. Each is a network again: nothing else knows of it.
"""

from ddim.networks.acceleration.compiled import Padded, compiled
from ddim.networks.acceleration.int8 import quantised
from ddim.networks.acceleration.packed import folded, packed
from ddim.networks.acceleration.prepare import PRECISIONS, prepare

__all__ = ["PRECISIONS", "Padded", "compiled", "folded", "packed", "prepare", "quantised"]
