"""Pushing to the Hub and loading from it, against a stand-in on this machine, through the real huggingface_hub."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from support.hub import standing_in
from support.models import tiny_model

import ddim
from ddim.checkpoints.saving import WEIGHTS
from ddim.cli import main as cli
from ddim.errors import InputError


@pytest.fixture
def hub(tmp_path: Path, monkeypatch):
    """A Hub that answers, with huggingface_hub asking it and caching in tmp_path."""
    with standing_in(token="secret") as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        address = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "secret")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


def refused(capsys, *args: object) -> str:
    """The one line with which a command refuses."""
    assert cli.main([*map(str, args)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("ddim: ")
    return line


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """What training leaves, as far as a push reads it, with an evaluation beside."""
    folder = ddim.save(tiny_model(size=8), tmp_path / "run")
    settings = {"preset": "digits", "lr": 0.002, "data": str(tmp_path), "mult": [1, 2]}
    (folder / "train.json").write_text(json.dumps(settings))
    (folder / "state").mkdir()
    (folder / "state/last.pt").write_bytes(b"large")
    (folder / "table.md").write_text("# FID\n\n| S | 10 |\n|---|---|\n| FID | 13.36 |\n\n![x](x.png)\n")
    return folder


def test_push_then_load(tmp_path: Path, run_folder: Path, hub, capsys):
    assert cli.main(["push", str(run_folder), "me/digits", "--steps", "5", "--private"]) == 0
    assert f"model: {hub.url}/me/digits" in capsys.readouterr().out
    files = hub.repos["me/digits"]
    assert set(files) == {
        *("README.md", "samples.png", "model_index.json", "unet/config.json", "scheduler/scheduler_config.json"),
        "unet/diffusion_pytorch_model.safetensors",
    }
    assert (hub.commits, hub.private["me/digits"]) == (1, True)
    card = files["README.md"].decode()
    assert card.startswith("---\n")
    told = ("library_name: diffusers", "| lr | 0.002 |", f"| data | {tmp_path.name} |", "### FID\n", "FID | 13.36")
    for part in (*told, "](samples.png)", "5 steps"):
        assert part in card
    assert "x.png" not in card
    assert str(tmp_path) not in card + files["model_index.json"].decode()
    pixels = np.asarray(Image.open(BytesIO(files["samples.png"])).convert("L"))
    assert 30 < pixels.std() < 128  # pictures, not a blank sheet

    model = ddim.load("me/digits", "cpu")
    assert model.fingerprint == ddim.load(run_folder, "cpu").fingerprint
    assert "samples.png" not in hub.fetched  # only what a model needs
    before = len(hub.fetched)
    ddim.load("me/digits", "cpu")
    assert len(hub.fetched) == before  # from the cache


def test_pickled_weights_come_only_where_there_are_no_others(tmp_path: Path, run_folder: Path, hub):
    """With everything at the root, as google/ddpm-cifar10-32 has it."""
    model = ddim.load(run_folder, "cpu")
    torch.save(model.network.state_dict(), tmp_path / "w.bin")
    files = {
        "config.json": (run_folder / "unet/config.json").read_bytes(),
        "scheduler_config.json": (run_folder / "scheduler/scheduler_config.json").read_bytes(),
        "model_index.json": b'{"_class_name": "DDPMPipeline"}',
        "diffusion_pytorch_model.bin": (tmp_path / "w.bin").read_bytes(),
    }
    hub.repos["google/old"] = files
    safe = {"diffusion_pytorch_model.safetensors": (run_folder / WEIGHTS).read_bytes()}
    hub.repos["google/both"] = files | safe
    for name, expected in {"google/old": 1, "google/both": 0}.items():
        hub.fetched.clear()
        assert ddim.load(name, "cpu").fingerprint == model.fingerprint
        assert hub.fetched.count("diffusion_pytorch_model.bin") == expected


def test_what_the_hub_refuses_gets_one_line(run_folder: Path, hub, capsys, monkeypatch):
    none = "no/body: no such folder, and the Hub has no such model either, or a private one"
    assert none in refused(capsys, "info", "no/body")
    assert "not a Hub id" in refused(capsys, "push", run_folder, "nobody")
    assert "none.md: no such file" in refused(capsys, "push", run_folder, "me/x", "--metrics", "none.md")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    told = refused(capsys, "push", run_folder, "me/digits", "--steps", "1")
    assert "me/digits: the Hub did not take it" in told
    assert not hub.repos


def test_nothing_that_looks_like_a_path_is_published(tmp_path: Path, hub, capsys):
    """Not from the facts of the model, its notes, its scheduler, the run's settings, or the table of an evaluation."""
    home = "/home/somebody/secret pictures"
    places = [
        f"{home}/cats",
        "~/secret/dogs",
        "C:\\secret\\birds",
        "../secret/fish",
        "file:///secret/cows",
        "\\\\secret\\x",
    ]
    notes = {"made from": places[0], "nested": {"list": [{"at": place} for place in places], places[1]: 1}, "n": 3}
    facts = ddim.Facts(
        source=f"{home}/run", data=places[2], layout=f"as in {places[0]}", assumed={"weights": places[3]}, notes=notes,
        scheduler={}, steps=7,
    )  # fmt: skip
    folder = ddim.save(replace(tiny_model(), facts=facts), tmp_path / "run")
    settings = {"preset": "digits", "data": [places[0], "uoft-cs/cifar10"], "held_out": places[2], "lr": 0.002}
    (folder / "train.json").write_text(json.dumps(settings))
    cells = " | ".join(places)
    table = (
        f"# FID of {places[0]}\n\n| {cells} |\n\nMeasured at 10/50 steps; see https://example.org/a/b. ({places[1]})\n"
    )
    (folder / "table.md").write_text(table)
    assert cli.main(["push", str(folder), "me/digits", "--steps", "1"]) == 0
    capsys.readouterr()
    files = hub.repos["me/digits"]
    for name, content in files.items():
        text = content.decode("utf-8", errors="replace")
        assert "secret" not in text, name
        assert "somebody" not in text, name
        assert str(tmp_path) not in text, name
    card = files["README.md"].decode()
    for kept in ("cats", "dogs", "birds", "fish", "uoft-cs/cifar10", "10/50 steps", "https://example.org/a/b", "0.002"):
        assert kept in card, kept
    assert (kept := json.loads(files["model_index.json"])["ddim"])["steps"] == 7
    assert (kept["made from"], kept["nested"]["list"][2], kept["n"]) == ("cats", {"at": "birds"}, 3)


def test_a_local_folder_opens_no_connection(run_folder: Path, hub, monkeypatch):
    import socket

    def refuse(*args, **options):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    model = ddim.load(run_folder, "cpu")
    ddim.save(model, run_folder.with_name("copy"))
    assert ddim.load("digits", "cpu").shape == (1, 8, 8)


@pytest.mark.parametrize(("name", "near"), [("runs/pest", "; did you mean runs/pets?"), ("some/body", "")])
def test_a_typo_without_a_network_is_one_line_that_names_what_is_near(name: str, near: str, tmp_path, monkeypatch):
    """No raw words of the network."""
    (tmp_path / "runs/pets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(InputError) as caught:
        ddim.load(name)
    assert str(caught.value) == f"{name}: no such folder, and the Hub cannot be reached to ask there{near}"


def test_a_typo_of_a_bundled_model_or_a_folder_names_what_is_near(tmp_path, monkeypatch):
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, near in {"cifar1O": "cifar10", "my-modle": "my-model"}.items():
        with pytest.raises(InputError, match=f"^{name}: no such model; did you mean {near}\\?$"):
            ddim.load(name)
    (tmp_path / "runs/images").mkdir(parents=True)
    with pytest.raises(InputError, match=r"^runs/imagse: no such folder or file; did you mean runs/images\?$"):
        ddim.images.find("runs/imagse", 8, 1)
