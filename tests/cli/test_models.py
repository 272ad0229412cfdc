"""What a command refuses before it reads the weights of its model, which takes seconds."""

import pytest
import torch
from PIL import Image
from support.command_line import refused
from support.models import labelled_model, tiny_model

import ddim
from ddim.checkpoints import loading

OTHERS = "mine: holds other files; name an empty or a new folder"
COW = "unknown class 'cow': give one of cat, dog, ship"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("sample", "model", "--out", "mine"), OTHERS),
        (("evaluate", "model", "--out", "mine"), OTHERS),
        (("likelihood", "model", "a.png", "--out", "mine"), OTHERS),
        (("vary", "model", "a.png", "--out", "mine"), OTHERS),
        (("restore", "model", "a.png", "--out", "mine"), OTHERS),
        (("inpaint", "model", "a.png", "--mask", "mask.png", "--out", "mine"), OTHERS),
        (("decode", "model", "z.safetensors", "--out", "mine"), OTHERS),
        (("inpaint", "model", "a.png", "--mask", "small.png"), "small.png: the mask is 4×4 and the images 8×8"),
        (("inpaint", "model", "a.png", "--mask", "a.png"), "a.png: the mask holds grey values"),
        (("inpaint", "model", "a.png", "--mask", "no.png"), "no.png: no such mask"),
        (("inpaint", "model", "a.png", "--mask", "mask.png", "--label", "cow"), COW),
        (("vary", "model", "a.png", "--source", "cow", "--label", "cat"), COW),
        *(((verb, "model", "--label", "cow"), COW) for verb in ("sample", "evaluate", "interpolate", "sequence")),
        *(((verb, "model", "a.png", "--label", "cow"), COW) for verb in ("restore", "vary", "likelihood", "encode")),
        (("decode", "model", "z.safetensors", "--label", "cow"), COW),
        (("sample", "plain", "--label", "cat"), "this model knows no classes: give no label"),
        (("sample", "digits", "--label", "cat"), "this model knows no classes: give no label"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_it_is_refused_before_the_weights_are_read(args, said, tmp_path, ddim_cli, monkeypatch):
    ddim.save(labelled_model(), tmp_path / "model")
    ddim.save(tiny_model(), tmp_path / "plain")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("x")
    Image.frombytes("L", (8, 8), bytes(range(64))).save(tmp_path / "a.png")
    for name, side in {"mask": 8, "small": 4}.items():
        Image.new("L", (side, side), 255).save(tmp_path / f"{name}.png")
    how = ("--steps", 4, "--device", "cpu", "--out", "z.safetensors")
    assert args[0] != "decode" or ddim_cli("encode", "plain", "a.png", *how).returncode == 0

    def read(*where):
        raise AssertionError("the weights were read")

    monkeypatch.setattr(loading, "read_folder", read)
    refused(ddim_cli(*args), said)
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_an_outline_is_the_model_without_its_weights(tmp_path):
    model = labelled_model()
    ddim.save(model, tmp_path / "model")
    found, whole = loading.outline(str(tmp_path / "model")), ddim.load(tmp_path / "model", "cpu")
    assert (found.shape, found.classes, found.facts) == (whole.shape, whole.classes, whole.facts)
    assert torch.equal(found.abar, whole.abar)
    assert next(found.network.parameters()).device.type == "meta"
    assert loading.outline("some/where") is None
    assert loading.outline("a\0b") is None
