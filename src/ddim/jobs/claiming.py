"""A folder for what one call makes: it refuses another call's, as the folders of jobs do."""

from pathlib import Path
from typing import Any

from ddim.diffusion.guidance import kept
from ddim.diffusion.model import Model
from ddim.images.selection import Selection
from ddim.jobs.editing import digest
from ddim.jobs.sampling import said
from ddim.system.files import check_own, folder
from ddim.system.json import claim


def claimed(path: Path, model: Model, **settings: Any) -> Path:
    """The folder of `path`, the file that keeps the settings. Raises InputError where it has others, or other files."""
    if isinstance(settings.get("images"), Selection):
        settings["images"] = digest(settings["images"])
    settings |= {"clip": said(model, settings["clip"]), "guidance": kept(settings["guidance"])}
    check_own(path), folder(path.parent)
    claim(path, model.identity | settings)
    return path.parent
