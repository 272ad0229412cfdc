"""Trackers: what a run writes down arrives in TensorBoard's own files; nothing of this machine's folders does."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from PIL import Image
from support.command_line import refused
from support.training import OPTIONS

from ddim.training.settings import TrackerName
from ddim.training.tracking import Tracker, numbers

EVERY = ("--held-out", "0.1", "--sample-every", "10", "--track", "tensorboard")


def events(run: Path):
    """TensorBoard's own reading of a run."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(run / "track" / run.name), {"scalars": 0, "images": 0})
    return found.Reload()


def scalars(run: Path, name: str) -> dict[int, float]:
    return {event.step: event.value for event in events(run).Scalars(name)}


def logged(run: Path, name: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines if name in line}


def test_tensorboard_has_the_lines_of_the_log_and_the_sheets(ddim_cli, tmp_path: Path):
    """Read back from its event files; a resume goes on in them, and what came after its state counts no more."""
    run = tmp_path / "run"
    first = ddim_cli("train", "digits", "--out", run, "--steps", 12, *OPTIONS, *EVERY)
    assert first.returncode == 0, first.stderr
    again = ddim_cli("train", "digits", "--out", run, "--resume", "--steps", 22)
    assert again.returncode == 0, again.stderr
    for name in ("loss", "lr", "held_out"):
        found, expected = scalars(run, name), logged(run, name)
        assert found.keys() == expected.keys()
        assert all(abs(found[step] - expected[step]) <= 1e-6 * abs(expected[step]) for step in expected)
    assert len(scalars(run, "loss")) == 22
    images = events(run).Images("samples")
    assert [image.step for image in images] == [int(path.stem[-7:]) for path in sorted((run / "samples").glob("*.png"))]
    import io

    sheet = Image.open(run / f"samples/step-{images[-1].step:07d}.png")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(images[-1].encoded_image_string))), np.asarray(sheet))


def test_folders_of_this_machine_are_not_sent(ddim_cli, tmp_path: Path):
    (tmp_path / "secret" / "pictures").mkdir(parents=True)
    for k in range(4):
        Image.new("L", (8, 8), 60 * k).save(tmp_path / f"secret/pictures/{k}.png")
    run = tmp_path / "run"
    how = ("--data", tmp_path / "secret/pictures", "--steps", 2, *OPTIONS, "--batch-size", 2, "--track", "tensorboard")
    result = ddim_cli("train", "digits", "--out", run, *how)
    assert result.returncode == 0, result.stderr
    sent = b"".join(path.read_bytes() for path in (run / "track").rglob("*") if path.is_file())
    assert b"pictures" in sent
    assert b"secret" not in sent
    assert str(tmp_path).encode() not in sent


def test_numbers_of_a_line_are_flat():
    line = {"step": 3, "loss": 0.5, "held_out_by_level": [1.0, 2.0], "samples": {"fid": 4.0, "name": "x", "n": 2}}
    flat = {"loss": 0.5, "held_out_by_level/0": 1.0, "held_out_by_level/1": 2.0, "samples/fid": 4.0, "samples/n": 2}
    assert numbers(line) == flat


def test_trackers_are_those_of_accelerate():
    assert {*get_args(TrackerName)} - {"none"} == {*map(str, LOGGER_TYPE_TO_CLASS)}


def test_a_tracker_that_is_not_there_is_one_line(ddim_cli, tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    result = ddim_cli("train", "digits", "--out", "run", "--track", "wandb")
    refused(result, "--track wandb: its library is not installed; pip install wandb")
    assert not (tmp_path / "run").exists()
    refused(ddim_cli("train", "digits", "--out", "run", "--track", "paper"), "--track")


def test_a_tracker_that_cannot_be_started_leaves_no_run(ddim_cli, tmp_path, monkeypatch):
    """As where one has to log in first: the same command is right once that is done."""

    def no_key(*_, **__):
        raise ValueError("no key\nfor this service")

    how = ("train", "digits", "--out", "runs/x", "--track", "tensorboard", "--steps", 2, *OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr("accelerate.Accelerator.init_trackers", no_key)
        refused(ddim_cli(*how), "--track tensorboard: it cannot be started (no key)")
    assert not (tmp_path / "runs").exists()
    assert ddim_cli(*how).returncode == 0


@pytest.mark.parametrize(("name", "listed"), [("wandb", True), ("swanlab", True), ("aim", False), ("clearml", False)])
def test_each_tracker_gets_a_sheet_as_it_takes_it(name: str, listed: bool):
    """Those of accelerate do not agree: some take a list of images under a name, some an image. Tried with the
    libraries themselves, of November 2026: `aim` refuses a list."""
    got = []

    class Kept:
        def log_images(self, values, step):
            got.append((values["samples"], step))

    class Accelerator:
        def get_tracker(self, asked):
            assert asked == name
            return Kept()

    sheet = Image.new("RGB", (6, 4), "red")
    Tracker(name, Accelerator()).sheet(sheet, 7)
    ((images, step),) = got
    image = images[0] if listed else images
    assert isinstance(images, list) is listed
    assert np.array_equal(image, np.asarray(sheet))
    assert step == 7
