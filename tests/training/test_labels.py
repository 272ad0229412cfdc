"""Training with labels: what the network is told, how often, and what a run keeps of it."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import UNet2DModel
from PIL import Image
from support.command_line import refused
from support.training import OPTIONS, TINY, losses

import ddim
from ddim.training import loop
from ddim.training.loss import dropped, randomness
from ddim.training.new_model import build
from ddim.training.settings import Settings

NAMES = ("ant", "bee", "cow", "dog")
LABELLED = TINY.changed(labels=True, batch_size=8, accumulate=2, steps=100)
TEN = ("--steps", 10, "--log-every", 5)


def shaded() -> tuple[torch.Tensor, torch.Tensor]:
    """40 images of one shade each, ten times their class: (40, 1, 8, 8) uint8 and (40,)."""
    labels = torch.arange(40) % 4
    return (10 * labels).to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous(), labels


def told(settings: Settings, steps: int, monkeypatch) -> tuple[torch.Tensor, torch.Tensor]:
    """The shades of the images of some steps and the labels that the network is told with them, (steps × batch,)."""
    seen = []

    def noted(network, x0, times, eps, abar, labels):
        seen.append((((x0[:, 0, 0, 0] + 1) * 127.5).round().long(), labels))
        return network.conv_out.bias.sum()  # any loss: what counts is what comes with it

    monkeypatch.setitem(loop.OBJECTIVES, "eps", noted)
    images, labels = shaded()
    model = build(settings, NAMES)
    state = loop.State.new(settings.optimiser, model.network)
    list(islice(loop.fit(settings, state, model.abar, images, Accelerator(cpu=True), labels), steps))
    return tuple(map(torch.cat, zip(*seen, strict=True)))


def test_each_image_goes_with_its_own_label_and_one_in_ten_with_none(monkeypatch):
    shades, labels = told(LABELLED, 100, monkeypatch)
    none = labels == 4
    assert torch.equal(shades[~none], 10 * labels[~none])
    assert abs(none.double().mean() - 0.1) < 4 * (0.09 / 800) ** 0.5
    for shade in (0, 10, 20, 30):  # of each class, by no rule
        assert 0.04 < none[shades == shade].double().mean() < 0.18
    assert told(LABELLED.changed(label_drop=0.0), 20, monkeypatch)[1].max() == 3


def test_labels_are_dropped_at_their_rate_from_a_stream_of_their_own():
    whole = torch.stack([dropped(3, step, 128, 0.1) for step in range(400)])
    assert abs(whole.double().mean() - 0.1) < 4 * (0.09 / whole.numel()) ** 0.5
    assert torch.equal(whole[7], dropped(3, 7, 128, 0.1))
    assert not torch.equal(whole[7], dropped(4, 7, 128, 0.1))
    coins = torch.stack([randomness(3, step, (128, 1, 1, 1), 1000)[2] for step in range(400)]) < 0.1
    both = (whole & coins).double().mean()  # as often as of independent draws
    assert abs(both - 0.01) < 4 * (0.0099 / whole.numel()) ** 0.5


def test_a_first_step_with_labels_has_the_loss_of_one_without():
    """Before it, the network predicts 0 whatever it is told; all that is drawn besides the labels is the same."""
    images, labels = shaded()
    first = []
    for settings, names, given in ((TINY, None, None), (TINY.changed(labels=True), NAMES, labels)):
        model = build(settings, names)
        state = loop.State.new(settings.optimiser, model.network)
        first.append(next(loop.fit(settings, state, model.abar, images, Accelerator(cpu=True), given)).item())
    assert first[0] == first[1]


def test_each_step_moves_the_embeddings_of_its_labels_and_their_average():
    images, _ = shaded()
    labels = torch.arange(40) % 2  # of the four classes, two never come
    model = build(LABELLED.changed(label_drop=0.3), NAMES)
    state = loop.State.new(LABELLED.optimiser, model.network)
    before = model.network.class_embedding.weight.detach().clone()
    settings = LABELLED.changed(label_drop=0.3)
    list(islice(loop.fit(settings, state, model.abar, images, Accelerator(cpu=True), labels), 4))
    for table in (state.network.class_embedding.weight, state.average.module.class_embedding.weight):
        moved = (table - before).abs().amax(1) > 0
        assert moved.tolist() == [True, True, False, False, True]


@pytest.fixture
def folders(tmp_path) -> Path:
    for name, shade in (("ant", 20), ("bee", 120), ("cow", 220)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(4):
            Image.fromarray(np.full((8, 8), shade + k, np.uint8)).save(tmp_path / "set" / name / f"{k}.png")
    return tmp_path / "set"


def test_a_run_keeps_its_classes_and_diffusers_opens_its_network(ddim_cli, folders, tmp_path):
    result = ddim_cli("train", "digits", "--data", "set", "--labels", "--out", "run", *OPTIONS, *TEN)
    assert result.returncode == 0, result.stderr
    assert "12 images of 3 classes" in result.stderr + result.stdout
    run = tmp_path / "run"
    kept = json.loads((run / "train.json").read_text())
    assert kept["classes"] == ["ant", "bee", "cow"]
    assert (kept["labels"], kept["label_drop"]) == (True, 0.1)
    model = ddim.load(run, "cpu")
    assert model.classes == ("ant", "bee", "cow")
    assert model.null_label == 3
    theirs = UNet2DModel.from_pretrained(run, subfolder="unet")
    x, labels = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3])
    with torch.no_grad():
        expected = theirs(x, torch.full((4,), 600), class_labels=labels).sample
    eps = torch.cat([ddim.guided(model, labels[:3])(x[:3], 601).eps, model(x[3:], 601).eps])
    torch.testing.assert_close(eps, expected, rtol=1e-5, atol=1e-5)
    with Image.open(run / "samples" / "step-0000010.png") as sheet:
        assert sheet.width > sheet.height  # five columns and the names of three rows
    again = ddim.load(ddim.save(model, tmp_path / "saved"), "cpu")
    assert (again.classes, again.null_label, again.fingerprint) == (model.classes, 3, model.fingerprint)
    result = ddim_cli("convert", "saved", "converted", "--to", "diffusers")
    assert "diffusers opens its unet/ as UNet2DModel" in result.stdout + result.stderr
    assert ddim.load(tmp_path / "converted", "cpu").classes == model.classes
    assert "classes                 3: ant, bee, cow; or none" in ddim_cli("info", "converted").stdout


def test_a_resumed_run_goes_on_as_an_unbroken_one_and_keeps_its_labels(ddim_cli, folders, tmp_path):
    how = ("train", "digits", "--data", "set", "--labels", *OPTIONS)
    assert ddim_cli(*how, "--out", "whole", "--steps", 20, "--log-every", 5).returncode == 0
    assert ddim_cli(*how, "--out", "half", *TEN).returncode == 0
    again = ("train", "digits", "--out", "half", "--resume")
    refused(ddim_cli(*again, "--no-labels"), "--labels False contradicts the run, which has True")
    refused(ddim_cli(*again, "--label-drop", 0.2), "--label-drop 0.2 contradicts the run, which has 0.1")
    (folders / "cow" / "0.png").rename(folders / "bee" / "9.png")  # the same in the same order, one of another class
    result = ddim_cli(*again, "--steps", 20)
    assert result.returncode == 2
    assert "its images are not those that the run in half was begun with" in result.stderr
    (folders / "bee" / "9.png").rename(folders / "cow" / "0.png")
    result = ddim_cli(*again, "--steps", 20)
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "half") == losses(tmp_path / "whole")
    assert ddim.load(tmp_path / "half", "cpu").fingerprint == ddim.load(tmp_path / "whole", "cpu").fingerprint
    assert json.loads((tmp_path / "half" / "train.json").read_text())["classes"] == ["ant", "bee", "cow"]


def test_images_too_many_for_memory_go_with_their_labels(folders, monkeypatch):
    """They are read as they come, and a broken one's place is taken by another with its own label."""
    (folders / "ant" / "3.png").write_bytes(b"broken")
    found = ddim.data.find(str(folders), 8, 1, skip_broken=True)
    settings = TINY.changed(labels=True, batch_size=6, steps=12, workers=0, flip=False)
    seen = []
    monkeypatch.setitem(
        loop.OBJECTIVES, "eps", lambda network, x0, t, e, abar, y: seen.append((x0, y)) or network.conv_out.bias.sum()
    )
    model = build(settings, found.labels.classes)
    state = loop.State.new(settings.optimiser, model.network)
    labels = torch.from_numpy(found.labels.numbers)
    list(loop.fit(settings, state, model.abar, found, Accelerator(cpu=True), labels))
    x0, y = (torch.cat(parts) for parts in zip(*seen, strict=True))
    shades = ((x0[:, 0, 0, 0] + 1) * 127.5).round().long()
    assert torch.equal((shades - 20)[y < 3] // 100, y[y < 3])
    assert set(y.tolist()) == {0, 1, 2, 3}


def test_images_without_labels_cannot_be_trained_by_them(ddim_cli, folders, tmp_path):
    how = ("train", "digits", "--labels", "--out", "run", *OPTIONS, *TEN)
    refused(ddim_cli(*how, "--data", "set/ant"), "set/ant/0.png and the others have no labels: put them into a folder")
    np.savez(tmp_path / "one.npz", images=np.zeros((3, 8, 8), np.uint8), y=np.zeros(3, np.int64))
    refused(ddim_cli(*how, "--data", "one.npz"), "one.npz, image 0 and the others are of one class: leave out --labels")
    np.savez(tmp_path / "some.npz", images=np.zeros((3, 8, 8), np.uint8), y=np.array([0, 1, -1]))
    refused(ddim_cli(*how, "--data", "some.npz"), "some.npz, image 2: has no label (of all images 1 have none)")
    assert not (tmp_path / "run" / "train.json").exists()


def test_without_a_drop_there_is_no_label_of_no_class():
    model = build(LABELLED.changed(label_drop=0.0), NAMES)
    assert (model.embeddings, model.null_label) == (4, None)
    with pytest.raises(ddim.InputError, match="of a class only: give a label, one of ant, bee, cow, dog"):
        ddim.sample(model, n=1, steps=1)
