"""Models on disk: folders, which are diffusers pipeline folders; files of other code, in `layouts`; the Hub.

`load` opens all of them, `save` writes a folder. The names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from ddim.lazy import exports

if TYPE_CHECKING:
    from ddim.checkpoints.bundled_models import bundled
    from ddim.checkpoints.loading import load
    from ddim.checkpoints.options import Options
    from ddim.checkpoints.saving import save

_HOMES = {"bundled": "bundled_models", "load": "loading", "Options": "options", "save": "saving"}

__all__ = list(_HOMES)
__getattr__, __dir__ = exports(__name__, _HOMES)
