"""The models that come with the package."""

from importlib.resources import files
from pathlib import Path


def bundled() -> dict[str, Path]:
    """The models that come with the package: name -> folder."""
    root = Path(str(files("ddim") / "checkpoints" / "bundled"))
    return {path.name: path for path in sorted(root.iterdir()) if path.is_dir()} if root.is_dir() else {}
