"""--json: stdout is one line of JSON, the record that a file of the verb holds; and what it says is so."""

import json
from pathlib import Path

import pytest
import torch
from support.models import labelled_model

import ddim


def record(result) -> dict:
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def test_info(ddim_cli, tmp_path: Path):
    ddim.save(labelled_model(("katt", "båt")), tmp_path / "mine")
    found = record(ddim_cli("info", "mine", "--json"))
    model = ddim.load(tmp_path / "mine", "cpu")
    assert found["parameters"] == sum(p.numel() for p in model.network.parameters())
    assert (found["shape"], found["T"], found["fingerprint"]) == ([1, 8, 8], 1000, model.fingerprint)
    assert (found["classes"], found["null_label"]) == (["katt", "båt"], 2)
    assert found["abar_T"] == pytest.approx(model.abar[-1].item())
    assert found["network"]["block_out_channels"] == [8, 16]
    assert record(ddim_cli("info", "digits", "--json"))["tuned_steps"][:6] == [3, 4, 5, 6, 7, 8]


def test_data(ddim_cli, tmp_path: Path):
    for name, n in (("cat", 2), ("dog", 1)):
        ddim.save_images(torch.zeros(n, 3, 6, 5), tmp_path / "images" / name)
    (tmp_path / "images" / "dog" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "images" / "readme.txt").write_text("no image")
    found = record(ddim_cli("data", "images", "--json"))
    assert found["n"] == 4
    assert found["classes"] == {"cat": 2, "dog": 2}
    assert found["sizes"] == [{"width": 5, "height": 6, "n": 3}]
    assert found["modes"] == {"RGB": 3}
    assert [Path(name).name for name in found["broken"]] == ["broken.png"]


@pytest.mark.parametrize(
    ("verb", "file", "options"),
    [
        ("reconstruct", "reconstruct.json", ("a.png", "--steps", 2, 3)),
        ("likelihood", "likelihood.json", ("a.png", "--steps", 2)),
        ("evaluate", "table.json", ("--n", 3, "--steps", 2, "--eta", 0, "--batch-size", 3)),
    ],
)
def test_a_measurement_prints_what_its_file_holds(ddim_cli, tmp_path: Path, verb: str, file: str, options: tuple):
    ddim.plots.save(ddim.plots.to_pil(torch.zeros(1, 8, 8)), tmp_path / "a.png")
    found = record(ddim_cli(verb, "digits", *options, "--json", "--out", "out"))
    held = json.loads((tmp_path / "out" / file).read_text())
    assert found == {name: value for name, value in held.items() if name not in ("file", "figure", "figures")}
    assert {"rows", "bits_per_dim", "cells"} & found.keys()


def test_a_refusal_prints_no_json(ddim_cli):
    result = ddim_cli("info", "nothing", "--json")
    assert (result.returncode, result.stdout) == (2, "")
