"""The walls: what imports what, how large files and functions are, how deep the calls go."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ddim
from ddim.networks.unet import UNet

SOURCE = Path(ddim.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
# In import order: what is in one imports only from those before it, or from itself.
WINGS = ["errors", "lazy", "system", "diffusion", "networks", "images", "plots", "checkpoints", "jobs", "evaluation"]
WINGS += ["training", "studio", "cli"]
FACE = ("__init__", "__main__")  # of the whole package; they name what they import from everywhere


def wing(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The modules of ours that a file imports, with the names taken from each; imports in functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ddim":
            names = [alias.name for alias in node.names]
            if node.module == "ddim":
                yield from ((f"ddim.{name}", []) for name in names if name != "__version__")
            else:
                yield node.module, names
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names if alias.name.split(".")[0] == "ddim")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_only_from_wings_above_and_nothing_private(path: Path):
    own = wing(path)
    if own in FACE:
        return
    assert own in WINGS
    for module, names in imports(path):
        other = module.split(".")[1]
        assert WINGS.index(other) <= WINGS.index(own), f"imports {module}, which stands below"
        private = [name for name in [*module.split("."), *names] if name.startswith("_") and name != "__version__"]
        assert not private or other == own, f"imports {private} of another wing"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_fit_a_screen_or_a_few(path: Path):
    text = path.read_text()
    assert text.count("\n") <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} has {node.end_lineno - node.lineno + 1} lines"


@pytest.mark.parametrize("name", [name for name in WINGS if (SOURCE / name).is_dir()])
def test_a_wing_says_what_lives_there(name: str):
    module = __import__(f"ddim.{name}", fromlist=["_"])
    assert module.__doc__
    if name != "cli":
        assert module.__all__
        assert all(hasattr(module, public) for public in module.__all__)


CALLS = {
    "sample": ("sample", "digits", "--n", 1, "--steps", 2, "--out", "a"),
    "encode": ("encode", "digits", "image.png", "--steps", 2, "--solver", "exact"),
    "implicit": ("encode", "digits", "image.png", "--steps", 2, "--solver", "implicit"),
    "reconstruct": ("reconstruct", "digits", "image.png", "--steps", 2),
    "consistency": ("consistency", "digits", "--steps", 2, 3, "--n", 2),
    "interpolate": ("interpolate", "digits", "--frames", 2, "--steps", 2),
    "sequence": ("sequence", "digits", "--n", 1, "--steps", 2),
    "evaluate": ("evaluate", "digits", "--n", 3, "--steps", 2, "--eta", 0),
    "train": ("train", "digits", "--steps", 1, "--batch-size", 4),
}


@pytest.mark.parametrize("verb", CALLS)
def test_from_the_command_line_to_the_network_there_are_at_most_six_frames(verb: str, ddim_cli, tmp_path, monkeypatch):
    """Of functions of ours, from `main` to the model or the loss that calls the network."""
    ddim.plots.save(ddim.plots.to_pil(ddim.sample(ddim.load("digits", "cpu"), n=1, steps=2)[0]), tmp_path / "image.png")
    depths, forward = set(), UNet.forward

    def counted(self, *args):
        frame, names = sys._getframe(1), []
        while frame is not None:
            if Path(frame.f_code.co_filename).is_relative_to(SOURCE):
                names.append(frame.f_code.co_name)
            frame = frame.f_back
        depths.add(tuple(reversed(names)))
        return forward(self, *args)

    monkeypatch.setattr(UNet, "forward", counted)
    result = ddim_cli(*CALLS[verb])
    assert result.returncode == 0, result.stderr
    work = [names for names in depths if "walk" in names or "fit" in names]
    assert work
    for names in work:
        assert names[0] == "main"
        assert len(names) <= 6, names
