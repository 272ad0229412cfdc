"""Labels and guidance in jobs: sampling, evaluation, latents, figures, the card."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.command_line import refused
from support.models import labelled_model

import ddim
from ddim import plots
from ddim.checkpoints.loading import load
from ddim.jobs import publishing


@pytest.fixture
def saved(tmp_path) -> Path:
    """A folder of a model that knows three classes and none."""
    return ddim.save(labelled_model(), tmp_path / "model")


def pngs(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.png"))}


def test_a_sheet_of_all_classes_and_its_images(ddim_cli, saved, tmp_path):
    """Image k is of class k mod K whatever n and the batch size; the sheet has a row a class."""
    how = ("sample", "model", "--label", "all", "--guidance", 2, "--steps", 3, "--precision", "fp32")
    assert ddim_cli(*how, "--n", 7, "--out", "a").returncode == 0
    assert ddim_cli(*how, "--n", 4, "--batch-size", 3, "--out", "b").returncode == 0
    alone = ddim_cli("sample", "model", "--label", "dog", *how[4:], "--n", 2, "--out", "c")
    assert alone.returncode == 0, alone.stderr
    a, b, c = (pngs(tmp_path / name) for name in "abc")
    assert len(a) == 7
    assert [b[name] for name in sorted(b)] == [a[name] for name in sorted(a)][:4]
    assert c["00001.png"] == a["00001.png"]
    assert c["00000.png"] != a["00000.png"]
    images = ddim.sample(labelled_model(), n=6, steps=3, label=[0, 1, 2] * 2, guidance=2)
    expected = plots.sheets.by_class(ddim.data.to_uint8(images), torch.tensor([0, 1, 2] * 2), ("cat", "dog", "ship"))
    with Image.open(tmp_path / "a-sheet.png") as sheet:
        assert np.abs(np.array(sheet).astype(int) - np.array(expected).astype(int)).max() <= 1
    assert ddim_cli(*how, "--n", 9, "--out", "b").returncode == 0  # more of the same
    assert pngs(tmp_path / "b")["00006.png"] == a["00006.png"]


def test_a_folder_keeps_its_label(ddim_cli, saved, tmp_path):
    how = ("sample", "model", "--n", 2, "--steps", 2, "--out", "out")
    assert ddim_cli(*how, "--label", "ship", "--guidance", 1.5).returncode == 0
    kept = json.loads((tmp_path / "out" / "sample.json").read_text())
    assert (kept["label"], kept["guidance"]) == (2, 1.5)
    before = pngs(tmp_path / "out")
    (tmp_path / "out" / "00001.png").unlink()
    assert ddim_cli(*how, "--label", "2", "--guidance", 1.5).returncode == 0  # by its number
    assert pngs(tmp_path / "out") == before
    refused(ddim_cli(*how, "--label", "cat", "--guidance", 1.5), "made with label 2, not 0; name another folder")
    refused(ddim_cli(*how, "--label", "ship"), "holds files made with guidance 1.5, not 1.0; name another folder")
    refused(ddim_cli(*how), "holds files made with label 2, not None")


def test_a_folder_from_before_there_were_labels_is_continued(ddim_cli, saved, tmp_path):
    how = ("sample", "model", "--n", 3, "--steps", 2, "--out", "out")
    assert ddim_cli(*how).returncode == 0
    path = tmp_path / "out" / "sample.json"
    kept = json.loads(path.read_text())
    assert (kept.pop("label"), kept.pop("guidance")) == (None, 1.0)
    path.write_text(json.dumps(kept))
    before = pngs(tmp_path / "out")
    (tmp_path / "out" / "00002.png").unlink()
    assert ddim_cli(*how).returncode == 0
    assert pngs(tmp_path / "out") == before


def test_an_interval_of_guidance_is_kept_and_counted(ddim_cli, saved, tmp_path):
    led = ("--label", "dog", "--guidance", 3, "--guidance-interval", 100, 500, "--guidance-rescale", 0.5)
    how = ("sample", "model", "--n", 2, "--steps", 2, *led)
    assert ddim_cli(*how, "--out", "out").returncode == 0
    kept = json.loads((tmp_path / "out" / "sample.json").read_text())
    assert kept["guidance"] == {"scale": 3.0, "interval": [100.0, 500.0], "rescale": 0.5}
    assert ddim_cli(*how, "--out", "out").returncode == 0
    refused(ddim_cli(*how[:-2], "--out", "out"), "made with guidance {", "name another folder")
    assert ddim_cli(*how).returncode == 0
    (folder,) = (tmp_path / "samples").glob("*/")
    assert folder.name.startswith("model-dog-guidance3-from100to500-rescale0.5-S2")
    refused(ddim_cli(*how[:-4], 500, 100, "--out", "other"), "two times, the lower first; got 500.0, 100.0")
    how = ("evaluate", "model", "--reference", "digits", "--steps", 10, "--eta", 0, "--n", 20, "--out", "found")
    assert ddim_cli(*how, *led).returncode == 0
    found = json.loads((tmp_path / "found" / "table.json").read_text())
    assert found["cells"][0]["evaluations"] == 15  # guided at 500, 400, 300, 200 and 100 of 1000, 900, … 100
    assert "guidance 3 at times 100 to 500, rescaled by 0.5" in (tmp_path / "found" / "table.md").read_text()


def test_the_folder_tells_settings_apart(ddim_cli, saved, tmp_path):
    """Other times, sections and tolerances have other folders, so that none is refused for another."""
    many = [*range(60, 0, -3), 0]
    ways = {
        ("--times", 1000, 700, 0): "times1000-700-0",
        ("--times", 1000, 500, 0): "times1000-500-0",
        ("--times", *many): "times20-",
        ("--times", *(t + 1 for t in many)): "times20-",
        ("--spacing", "2,3"): "S5-2-3",
        ("--tolerance", 0.01, "--steps", 2): "adaptive-0.01-",
        ("--tolerance", 0.02, "--steps", 2): "adaptive-0.02-",
    }
    for way, name in ways.items():
        before = set(tmp_path.glob("samples/*"))
        assert ddim_cli("sample", saved, "--label", "cat", "--n", 1, *way).returncode == 0
        (new,) = (path.name for path in set(tmp_path.glob("samples/*")) - before if path.is_dir())
        assert name in new
        assert "," not in new


def test_a_label_names_the_folder(ddim_cli, saved, tmp_path):
    assert ddim_cli("sample", "model", "--n", 1, "--steps", 2, "--label", "dog", "--guidance", 3).returncode == 0
    assert (tmp_path / "samples" / "model-dog-guidance3-S2-power-1.5-unipc-eta0.0-seed0" / "00000.png").exists()


def test_what_cannot_be_is_refused_before_anything_is_written(ddim_cli, saved, tmp_path):
    ddim.save(labelled_model(null=False), tmp_path / "without")
    how = ("--n", 2, "--steps", 2, "--out", "out", "--precision", "fp32")

    def told(*args) -> str:
        result = ddim_cli("sample", *args, *how)
        assert result.returncode == 2
        return result.stderr.strip().splitlines()[-1]

    assert told("model", "--label", "shop").endswith("give one of cat, dog, ship; did you mean ship?")
    assert told("model", "--guidance", 2).endswith("leads towards a class: give a label too")
    assert told("without").endswith("makes images of a class only: give a label, one of cat, dog, ship")
    assert told("without", "--label", 1, "--guidance", 2).endswith("so it cannot be guided: leave out guidance")
    assert told("digits", "--label", 1).endswith("this model knows no classes: give no label")
    assert not (tmp_path / "out").exists()
    assert ddim_cli("sample", "without", "--label", "all", *how).returncode == 0


def test_latents_are_decoded_as_they_were_encoded(ddim_cli, saved, tmp_path):
    plots.save(plots.to_pil(torch.linspace(-1, 1, 64).view(1, 8, 8)), tmp_path / "x.png")
    how = ("encode", "model", "x.png", "--label", "dog", "--guidance", 1.5, "--steps", 4, "--solver", "exact")
    assert ddim_cli(*how).returncode == 0
    assert ddim_cli("decode", "model", "latents.safetensors").returncode == 0
    apart = plots.read(tmp_path / "decoded" / "00000.png").int() - plots.read(tmp_path / "x.png").int()
    assert apart.abs().max() <= 1
    assert ddim_cli("decode", "model", "latents.safetensors", "--label", "cat", "--out", "cat").returncode == 0
    assert pngs(tmp_path / "cat") != pngs(tmp_path / "decoded")


def test_figures_of_a_class(ddim_cli, saved, tmp_path):
    for verb in ("interpolate", "sequence"):
        made = {}
        for label in ("cat", "ship"):
            how = ("--label", label, "--guidance", 2, "--frames", 3, "--steps", 2, "--out", label)
            result = ddim_cli(verb, "model", *how)
            assert result.returncode == 0, result.stderr
            made[label] = (tmp_path / label / f"{verb}.png").read_bytes()
        assert made["cat"] != made["ship"]


def test_an_evaluation_of_classes(ddim_cli, saved, tmp_path):
    how = ("evaluate", "model", "--reference", "digits", "--steps", 2, "--eta", 0, "--n", 20, "--out", "out")
    result = ddim_cli(*how, "--label", "all", "--guidance", 2)
    assert result.returncode == 0, result.stderr
    assert "images of all classes in turn, guidance 2" in result.stdout
    found = json.loads((tmp_path / "out" / "table.json").read_text())
    assert (found["label"], found["guidance"]) == ("all", 2.0)
    assert found["cells"][0]["evaluations"] == 4  # two branches a step
    cell = np.load(next((tmp_path / "out" / "cells").rglob("[0-9]*.npy")))
    expected = ddim.data.to_uint8(ddim.sample(load(saved, "cpu"), n=20, steps=2, label="all", guidance=2))
    assert np.abs(cell[..., 0].astype(int) - expected[:, 0].numpy()).mean() < 2  # in less than float32
    refused_ = ddim_cli(*how)
    assert refused_.returncode == 2
    assert "made with label all, not None" in refused_.stderr


def test_the_card_names_the_classes(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "upload", lambda folder, *_: "\n".join(
        [(folder / "README.md").read_text(), str(plots.read(folder / "samples.png").shape)]
    ))  # fmt: skip
    text = publishing.push(load(saved, "cpu"), "me/mine", str(saved), steps=2)
    assert "`--label NAME` chooses one of 3 classes: cat, dog, ship; label 3 of the network stands for no" in text
    assert 'UNet2DModel.from_pretrained("me/mine", subfolder="unet")` opens its network' in text
    assert "DDIMPipeline" not in text
    assert "15 samples with 2 steps" in text
