"""Where caches lie: $DDIM_CACHE, $XDG_CACHE_HOME, $HF_HOME, as docs/scripts.md says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddim.system.machine import cache_folder


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"DDIM_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"DDIM_CACHE": "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/ddim"),
        ({"XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/ddim"),
        ({"HOME": "/c"}, "/c/.cache/ddim"),
    ],
)
def test_the_cache_lies_where_the_environment_says(variables: dict, place: str, monkeypatch):
    for name in ("DDIM_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(place)


def run(tmp_path: Path, code: str, **variables: str) -> str:
    env = {name: value for name, value in os.environ.items() if name not in ("DDIM_CACHE", "HF_HOME", "HF_HUB_CACHE")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env | variables, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_decoded_images_go_to_the_cache_and_nowhere_else(tmp_path: Path):
    """An image is decoded once, into $DDIM_CACHE; the home stays empty."""
    make = "import torch, ddim; ddim.save_images(torch.zeros(2, 1, 8, 8), 'images');"
    code = make + "ddim.data.load(ddim.data.find('images', 8, 1))"
    (tmp_path / "home").mkdir()
    run(tmp_path, code, DDIM_CACHE=str(tmp_path / "cache"), HOME=str(tmp_path / "home"))
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".safetensors"]
    assert list((tmp_path / "home").rglob("*.safetensors")) == []


def test_models_of_the_hub_are_looked_for_in_hf_home(tmp_path: Path):
    """A snapshot that lies in $HF_HOME is opened, with no word to the Hub."""
    snapshot = tmp_path / "hf" / "hub" / "models--some--digits" / "snapshots"
    code = (
        "import ddim, pathlib;"
        f"place = pathlib.Path({str(snapshot)!r}) / ('0' * 40); ddim.save(ddim.load('digits', 'cpu'), place);"
        "refs = place.parents[1] / 'refs'; refs.mkdir(); (refs / 'main').write_text('0' * 40);"
        "print(ddim.load('some/digits', 'cpu').fingerprint == ddim.load('digits', 'cpu').fingerprint)"
    )
    assert run(tmp_path, code, HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="1") == "True"
