"""The public face: names, help, what an import costs."""

import ast
import re
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_args

import pytest
from support.models import tiny_model

import ddim
from ddim.cli import names, options
from ddim.cli.main import VERBS
from ddim.diffusion import schedule
from ddim.diffusion.solvers import VARIANCES
from ddim.networks.acceleration import PRECISIONS

SOURCE = Path(ddim.__file__).parent
ROOT = Path(__file__).parents[1]


def listed(path: Path) -> tuple[set[str], set[str]]:
    """The names of a package's TYPE_CHECKING block, and of its lazy table."""
    tree = ast.parse(path.read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    typed = {alias.asname or alias.name for node in block.body for alias in node.names}
    table = next(n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "_HOMES")
    return typed, set(ast.literal_eval(table.value))


@pytest.mark.parametrize("package", ["", "checkpoints", "jobs", "evaluation", "training"])
def test_what_editors_see_is_what_there_is(package: str):
    typed, table = listed(SOURCE / package / "__init__.py")
    module = __import__(f"ddim.{package}".rstrip("."), fromlist=["_"])
    assert typed == table == set(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert (SOURCE / "py.typed").exists()


def test_names_stay_functions_after_every_import():
    """`ddim.sample` is the function, also once every module has been imported."""
    for path in SOURCE.rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py"):
            __import__(f"ddim.{'.'.join(path.relative_to(SOURCE).with_suffix('').parts)}")
    for name in ("load", "save", "sample", "walk", "encode", "decode", "slerp", "interpolate", "train", "evaluate"):
        assert callable(getattr(ddim, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ddim.nothing


def test_every_name_that_the_docs_use_exists():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.py")]
    for page in pages:
        for dotted in set(re.findall(r"\bddim\.([a-z_A-Z]\w*(?:\.\w+)*)(?=[(`\s,.;])", page.read_text())):
            value = ddim
            for part in dotted.split("."):
                if part in ("md", "yml", "py", "fish") or not re.fullmatch(r"\w+", part):
                    break
                assert hasattr(value, part), f"{page.name}: ddim.{dotted}"
                value = getattr(value, part)


def loaded(code: str) -> set[str]:
    """Which heavy libraries a piece of code has loaded."""
    code = f"import sys; {code}; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split()) & {"torch", "numpy", "PIL", "tyro", "rich", "matplotlib", "datasets"}


def test_an_import_and_help_load_nothing_heavy():
    assert loaded("import ddim") == set()
    assert loaded("from ddim.cli.main import main; main(['--help'])") == set()


def test_options_load_no_torch():
    """A wrong option of every verb is refused before torch is loaded."""
    calls = "; ".join(f"main([{verb!r}, '--nonsense'])" for verb in VERBS if verb != "train")
    calls += "; main(['train', 'digits', '--lr', 'fast']); main(['train', 'digits', '--steps', '0'])"
    assert loaded(f"from ddim.cli.main import main; {calls}") <= {"tyro", "rich"}


@pytest.mark.parametrize("verb", VERBS)
def test_help_ends_with_two_examples_and_has_no_none(ddim_cli, verb: str):
    result = ddim_cli(verb, "digits", "--help") if verb == "train" else ddim_cli(verb, "--help")
    assert result.returncode == 0, result.stderr
    assert f"usage: ddim {verb}" in result.stdout
    assert not re.search(r"\bNone\b", result.stdout), result.stdout
    examples = result.stdout.rstrip().rpartition("examples:\n")[2].splitlines()
    assert len(examples) == 2
    assert all(line.startswith(f"  ddim {verb}") for line in examples)


@pytest.mark.parametrize("verb", VERBS)
def test_examples_are_valid_commands(verb: str):
    """Each parses: what it names need not be there."""
    module = __import__(f"ddim.cli.commands.{verb}", fromlist=["_"])
    kind = next(v for v in vars(module).values() if is_dataclass(v) and getattr(v, "__name__", "").lower() == verb)
    for line in module.EXAMPLES:
        words = line.partition("#")[0].split()
        assert words[:2] == ["ddim", verb]
        if verb == "train":
            named = words[2] in module.PRESETS
            options.parse(kind, "train", words[2 + named :], module.filled(module.PRESETS["cifar10"]))
        else:
            options.parse(kind, verb, words[2:])


def test_choices_are_the_tables():
    assert set(names.SPACINGS) == {*schedule.SPACINGS, *schedule.LEVEL_SPACINGS}
    assert set(get_args(names.SolverName)) == {*ddim.SOLVERS, "tuned"}
    assert set(get_args(options.Precision)) == {*PRECISIONS, "auto", "int8"}
    assert set(get_args(options.Noise.__annotations__["variance"])) == set(VARIANCES)


def test_a_model_is_one_line():
    assert "\n" not in repr(tiny_model())
    assert len(repr(ddim.load("digits", "cpu"))) < 200
