"""What README and the pages show runs: each Python block, and each command, small."""

import dataclasses
import re
import shlex
from dataclasses import is_dataclass
from pathlib import Path

import pytest
import torch
from support.models import labelled_model, tiny_model

import ddim
from ddim.cli import options
from ddim.cli.main import VERBS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """The fenced blocks of a page: language, title, text."""
    return FENCE.findall(page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[str]:
    """The commands of a page, without comments: lines of its blocks and `code` in its text."""
    text = page.read_text(encoding="utf-8")
    inline = re.findall(r"`(ddim [a-z]+ [^`…]*)`", FENCE.sub("", text))
    lines = [part for _, _, block in blocks(page) for line in block.splitlines() for part in line.split(" && ")]
    found = [line.partition(" #")[0].partition(" > ")[0].strip() for line in [*lines, *inline]]
    return [line for line in dict.fromkeys(found) if re.match(r"ddim [a-z]+( |$)", line) and "…" not in line]


def is_a_command(line: str) -> bool:
    """Not a verb alone, as text names it, nor a place for one."""
    words = line.split()
    return words[1] in VERBS and "VERB" not in line and not (len(words) > 2 and words[2].startswith("--"))


EVERY = sorted({line for page in PAGES for line in commands(page) if is_a_command(line)})


def parsed(words: list[str]) -> None:
    """Parse a command as its verb does, or raise."""
    verb, rest = words[1], words[2:]
    module = __import__(f"ddim.cli.commands.{verb}", fromlist=["_"])
    kind = next(v for v in vars(module).values() if is_dataclass(v) and getattr(v, "__name__", "").lower() == verb)
    if verb == "train":
        named = bool(rest) and rest[0] in module.PRESETS
        options.parse(kind, "train", rest[named:], module.filled(module.PRESETS[rest[0] if named else "cifar10"]))
    else:
        options.parse(kind, verb, rest)


@pytest.mark.parametrize("line", [line for line in EVERY if "--help" not in line])
def test_every_command_on_the_pages_is_one(line: str):
    parsed(shlex.split(line))


EDITS = ("inpaint", "restore", "vary")
SMALL = {  # options that a command gets where it is run here, in the place of its own
    **{verb: {"--n": "2"} for verb in ("sample", "sequence")},
    "reconstruct": {"--n": "2", "--steps": "2 3"},
    "consistency": {"--n": "2", "--steps": "2 3"},
    "evaluate": {"--n": "3", "--steps": "2", "--batch-size": "3"},
    "likelihood": {"--n": "2", "--steps": "3"},
    "latents": {"--n": "4", "--steps": "2"},
    "interpolate": {"--frames": "2"},
    **{verb: {} for verb in ("encode", "decode", "data", "info", "explore", "nearby")},
    **{verb: {"--steps": "3"} for verb in EDITS},
}
NAMES = {
    "MODEL": "digits",
    "RUN": "digits",
    "FILE": "digits",
    "IMAGES": "digits",
    "SOURCE": "digits",
    "cifar10": "digits",
}
NOT_HERE = ("Hub", "TRAIN", "TEST", ".pth", ".ckpt", ".pt", ".parquet", ".npz", "inception", "improved", "tuned")


def small(line: str) -> list[str] | None:
    """A command with small settings, on the smallest model; None where it is not run here."""
    words = shlex.split(line)
    if words[1] not in SMALL or any(word in line for word in NOT_HERE):
        return None
    names = {"cifar10": "runs/classes"} if "--label" in words else NAMES
    names = {"cifar10": "runs/colour"} if words[1] in EDITS else names
    words = [names.get(word, word) for word in words[2:]]
    for option, value in SMALL[line.split()[1]].items():
        words = [*without(words, option), option, *value.split()]
    if "--steps" in words and int(words[words.index("--steps") + 1]) > 20:
        words = [*without(words, "--steps"), "--steps", "4"]
    if line.split()[1] in ("encode", "decode"):
        words = [*without(words, "--steps"), "--steps", "4"]
    if "--time" in words and line.split()[1] == "interpolate":
        words = [*without(words, "--time"), "--time", "125", "--steps", "2"]
    return [line.split()[1], *words]


def without(words: list[str], option: str) -> list[str]:
    """The words without an option and what follows it up to the next."""
    if option not in words:
        return words
    at = words.index(option)
    behind = next((i for i in range(at + 1, len(words)) if words[i].startswith("--")), len(words))
    return words[:at] + words[behind:]


@pytest.fixture
def place(tmp_path: Path, ddim_cli):
    """A folder with what the pages name: images of all kinds, and models with random weights."""
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    for name in ("my-images", "photos", "blurred", "threes"):
        ddim.save_images(images, tmp_path / name)
    ddim.save_images(images[:1, :1], tmp_path / "grey")
    ddim.save_images(images[:1, :, :8, :8], tmp_path / "small")
    for name, image in {"a": images[0], "b": images[1], "mask": (images[0, :1] > 0) * 2.0 - 1}.items():
        ddim.plots.save(ddim.plots.to_pil(image), tmp_path / f"{name}.png")
    for name in ("runs/mine", "runs/my-images", "runs/check", "my-model", "flowers"):
        ddim.save(tiny_model(), tmp_path / name)
    ddim.save(tiny_model(channels=3, size=32), tmp_path / "runs/colour")
    ddim.save(labelled_model(), tmp_path / "runs/pets")
    ddim.save(labelled_model(ddim.load("cifar10", "cpu").classes), tmp_path / "runs/classes")
    for name in ("runs/digits", "runs/held"):
        ddim.save(labelled_model(tuple("0123456789")), tmp_path / name)
    assert ddim_cli("encode", "digits", "a.png", "--steps", 4, "--out", "z.safetensors").returncode == 0
    return tmp_path


@pytest.mark.parametrize("line", [line for line in EVERY if small(line) and "--help" not in line])
def test_a_command_runs(line: str, place: Path, ddim_cli):
    words = small(line)
    if words[0] == "encode":  # of one image; the fixture's latents are there
        words = [*without(["a.png" if word == "digits" and i == 2 else word for i, word in enumerate(words)], "--out")]
        words += ["--out", "own.safetensors"]
    result = ddim_cli(*words)
    assert result.returncode == 0, f"ddim {shlex.join(words)}\n{result.stderr}"


def test_most_commands_of_the_start_are_run():
    lines = [line for line in commands(ROOT / "docs" / "index.md") if is_a_command(line)]
    assert sum(small(line) is not None for line in lines) >= 6


def tiny(code: str) -> str:
    """A Python block with small numbers."""
    code = re.sub(r"\bn=\d{2,}", "n=4", code)
    code = re.sub(r"steps=\d{3,}", "steps=20", re.sub(r"steps=\([^)]*\)", "steps=(2, 3)", code))
    return re.sub(r'solver="exact", steps=\d+', 'solver="exact", steps=20', code).replace('"cifar10"', '"digits"')


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b[0] == "python" for b in blocks(page))], ids=lambda p: p.name
)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch):
    """Its blocks one after another; those that quote the source with a title are held to it elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    model = ddim.load("digits")
    ddim.save(labelled_model(("cat", "dog")), tmp_path / "runs/pets")
    ddim.save(labelled_model(tuple("0123456789")), tmp_path / "runs/digits")
    found = {"ddim": ddim, "torch": torch, "model": model, "images": ddim.sample(model, n=2, steps=2)}
    for language, title, code in blocks(page):
        if language == "python" and "title=" not in title and "ddim.tune(" not in code:
            exec(compile(tiny(code), page.name, "exec"), found)


def test_what_a_page_adds_does_what_it_says():
    """docs/extending.md, by its numbers: half of a model and half of itself is the model, and grey 200 is 0.57."""
    page = [
        code for language, title, code in blocks(ROOT / "docs" / "extending.md") if language == "python" and not title
    ]
    found: dict = {}
    exec(next(code for code in page if "class Blend" in code), found)
    digits = found["digits"]
    young = dataclasses.replace(tiny_model(size=16), facts=ddim.Facts(images=5000))
    for model, how in ((digits, {"steps": 5, "solver": "ddim", "clip": False}), (digits, {}), (young, {})):
        blend = ddim.sample(found["Blend"](model, model), n=2, **how)
        assert torch.allclose(blend, ddim.sample(model, n=2, **how), atol=1e-5)
    assert not torch.allclose(ddim.sample(digits, n=2), ddim.sample(digits, n=2, clip=False), atol=1e-5)
    assert not torch.allclose(ddim.sample(young, n=2), ddim.sample(young, n=2, eta=0.0), atol=1e-5)
    exec(next(code for code in page if "class Squares" in code), found)
    assert found["images"].unique().tolist() == [pytest.approx(200 / 127.5 - 1, abs=1e-6)]


def test_the_latents_of_the_readme_lead_back(tmp_path: Path, monkeypatch):
    """To rounding, on the model that it names."""
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    code = next(code for language, _, code in blocks(ROOT / "README.md") if language == "python")
    exec(code.replace("n=4", "n=2"), found)
    assert len(found["pair"]) == 2
    assert (found["back"] - found["images"]).abs().max() < 1e-3
    assert found["images"].shape == (2, 3, 32, 32)
    assert Path("sheet.png").stat().st_size > 1000


def test_what_the_readme_links_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_what_the_pages_say_of_latents_is_so():
    """docs/latents.md: about by DDIM, off by 0.08 (root mean square) and in one pixel by 1.14; to rounding by exact."""
    found: dict = {}
    code = next(code for language, _, code in blocks(ROOT / "docs" / "latents.md") if language == "python")
    exec(code, found)
    about, same = (found[name] - found["images"] for name in ("back", "same"))
    assert round(about.abs().max().item(), 2) == 1.14
    assert round(about.square().mean().sqrt().item(), 2) == 0.08
    assert same.abs().max() < 1e-3
