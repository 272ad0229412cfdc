"""The studio: what DDIM can do, done by hand in a browser and seen as it happens. One file a tab.

It needs the extra `studio` (Gradio), which is imported when the page is built.
"""

from typing import TYPE_CHECKING

from ddim.lazy import exports

if TYPE_CHECKING:
    from ddim.studio.server import application, serve
    from ddim.studio.settings import Studio

_HOMES = {"application": "server", "serve": "server", "Studio": "settings"}

__all__ = list(_HOMES)
__getattr__, __dir__ = exports(__name__, _HOMES)
