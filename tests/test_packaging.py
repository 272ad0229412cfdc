"""What is shipped: wheel and sdist hold what they should, and the wheel works in an environment of its own."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import ddim

ROOT = Path(__file__).parents[1]
LARGEST = 20 * 10**6  # bytes of the wheel


def test_the_version_is_the_same_everywhere():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == ddim.__version__
    assert {"cff-version", "title", "message", "authors", "preferred-citation"} <= cited.keys()
    heading = re.search(r"^## (\S+?),", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heading[1] == ddim.__version__


def test_the_extras_are_those_that_the_documentation_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"studio", "docs", "lsun", "track", "test", "dev"} == project["optional-dependencies"].keys()
    tested = set(project["optional-dependencies"]["test"])
    for extra in ("studio", "docs", "lsun", "track"):
        assert set(project["optional-dependencies"][extra]) <= tested, f"{extra}: what is tested is what is asked for"


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """The wheel and the sdist, built from what git tracks and would track; the wheel from the sdist."""
    out, copy = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("copy")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in filter(lambda name: (ROOT / name).is_file(), names):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(ROOT / name, copy / name) if (ROOT / name).stat().st_dev == copy.stat().st_dev else (
            copy / name
        ).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--skip-dependency-check",
        "--outdir",
        str(out),
        str(copy),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_little_else(dist: Path):
    wheel = next(dist.glob("*.whl"))
    assert wheel.stat().st_size <= LARGEST
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/ddim"]
    tracked = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert names == {name.removeprefix("src/") for name in tracked if (ROOT / name).is_file()}
    metadata = next(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "Classifier: Typing :: Typed" in text
    assert "Provides-Extra: studio" in text


@pytest.mark.slow
def test_the_sdist_can_be_tested_and_read(dist: Path):
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/ddim/cli/main.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "runs/", "site/"))]


@pytest.mark.slow
def test_the_wheel_works_in_an_environment_of_its_own(dist: Path, tmp_path: Path):
    """Installed without the checkout; its dependencies are those of this environment, which a path file lends."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    place = Path(subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip())  # fmt: skip
    wheel = next(dist.glob("*.whl"))
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
        str(wheel),
    ]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lent = [path for path in sys.path if path.endswith("site-packages")]
    (place / "lent.pth").write_text("\n".join(lent) + "\n")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}

    def run(*args: str) -> str:
        result = subprocess.run(args, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    where = run(str(python), "-c", "import ddim; print(ddim.__file__)").strip()
    assert Path(where).is_relative_to(place), where
    command = str(tmp_path / "venv" / "bin" / "ddim")
    assert "sample" in run(command, "--help")
    for model in ("digits", "cifar10", "emoji"):
        run(command, "sample", model, "--n", "2", "--steps", "2", "--out", model)
        assert len(list((tmp_path / model).glob("*.png"))) == 2
    run(command, "train", "digits", "--steps", "1", "--batch-size", "4", "--out", "run")
    assert "parameters" in run(command, "info", "run")
