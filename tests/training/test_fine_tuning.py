"""Training that begins with a model: what it takes from it, what it refuses, and that it begins as that model is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from PIL import Image
from support.command_line import refused
from support.layouts import Improved, Official, randomise
from support.models import labelled_model, tiny_model
from support.training import losses

import ddim
from ddim.training.fine_tuning import prepared
from ddim.training.presets import FINE_TUNING

FEW = ("--steps", 4, "--batch-size", 4, "--log-every", 1, "--save-every", 2, "--precision", "fp32")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Sixteen coloured images in two class folders."""
    stream = np.random.default_rng(0)
    for k in range(16):
        folder = tmp_path / "mine" / ("ant" if k % 2 else "bee")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stream.integers(0, 256, (40, 32, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    return tmp_path / "mine"


def same(a: ddim.Model, b: ddim.Model, labels=None) -> bool:
    """Whether two models believe the same of the same images at several times, bit for bit."""
    x = torch.randn(3, *a.shape, generator=torch.Generator().manual_seed(1))
    told = () if labels is None else (labels,)
    return all(torch.equal(a(x, t).eps, b(x, t, *told).eps) for t in (1, 400, a.T))


def at_its_start(ddim_cli, tmp_path: Path, source: object, *options: object) -> ddim.Model:
    """The model in a run folder before its first step: the run is refused then, for a learning rate of nonsense."""
    result = ddim_cli("train", "--init", source, "--data", "mine", "--out", "run", *FEW, "--lr", "1e38", *options)
    assert "the loss became" in result.stderr, result.stderr
    assert json.loads((tmp_path / "run" / "train.json").read_text())["init"] == str(source)
    return ddim.load(tmp_path / "run", "cpu")


def test_from_a_folder_of_ours(ddim_cli, tmp_path, pictures):
    ddim.save(tiny_model(channels=3, size=16), tmp_path / "own")
    model = at_its_start(ddim_cli, tmp_path, tmp_path / "own")
    assert same(ddim.load(tmp_path / "own", "cpu"), model)
    assert model.shape == (3, 16, 16)
    kept = json.loads((tmp_path / "run" / "train.json").read_text())
    assert (kept["ch"], kept["mult"], kept["attention"], kept["layers"], kept["groups"]) == (8, [1, 2], [8], 1, 4)
    assert (kept["size"], kept["channels"], kept["T"], kept["preset"]) == (16, 3, 1000, None)


def test_from_a_folder_of_diffusers(ddim_cli, tmp_path, pictures):
    torch.manual_seed(3)
    theirs = UNet2DModel(
        sample_size=16, block_out_channels=(32, 48), layers_per_block=1, norm_num_groups=8, attention_head_dim=16,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    theirs.save_pretrained(tmp_path / "theirs" / "unet")
    DDIMScheduler(num_train_timesteps=200, beta_schedule="scaled_linear").save_pretrained(
        tmp_path / "theirs" / "scheduler"
    )
    model = at_its_start(ddim_cli, tmp_path, tmp_path / "theirs", "--size", 32)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    source = ddim.load(tmp_path / "theirs", "cpu")
    index = torch.tensor([149, 3])
    assert torch.equal(model.network(x, index), source.network(x, index))
    with torch.no_grad():
        torch.testing.assert_close(model.network(x, index), theirs(x, index).sample, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.abar, source.abar)
    kept = json.loads((tmp_path / "run" / "train.json").read_text())
    assert (kept["schedule"], kept["T"], kept["ch"], kept["mult"]) == ("scaled-linear", 200, 16, [2, 3])


def test_from_a_file_of_the_official_code(ddim_cli, tmp_path, pictures):
    network = randomise(Official())
    torch.save(network.state_dict(), tmp_path / "ckpt.pth")
    model = at_its_start(ddim_cli, tmp_path, tmp_path / "ckpt.pth", "--size", 32)
    source = ddim.load(tmp_path / "ckpt.pth", "cpu", image_size=32)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(model.network(x, torch.tensor([149, 3])), source.network(x, torch.tensor([149, 3])))
    with torch.no_grad():
        theirs = network(x, torch.tensor([149, 3]))
    torch.testing.assert_close(model.network(x, torch.tensor([149, 3])), theirs, rtol=1e-4, atol=1e-4)


def test_a_learned_variance_is_left_behind(tmp_path):
    torch.save(randomise(Improved(out=6)).state_dict(), tmp_path / "improved.pt")
    source = ddim.load(tmp_path / "improved.pt", "cpu", image_size=16)
    begun = prepared(source, FINE_TUNING.changed(init="improved.pt", size=16), None)
    assert begun.network.config.out_channels == 3
    begun.network.eval()
    assert same(source, begun)
    assert ddim.load(ddim.save(begun, tmp_path / "saved"), "cpu").network.config.out_channels == 3


def test_classes_begin_as_no_class():
    """Beside a network without classes, with embeddings of 0; beside one with other classes, as its own null label."""
    source = tiny_model()
    settings = FINE_TUNING.changed(size=8, channels=1, labels=True, dropout=0.0)
    begun = prepared(source, settings, ("ant", "bee"))
    begun.network.eval()
    assert begun.network.class_embedding.weight.shape[0] == 3
    assert begun.network.class_embedding.weight.abs().max() == 0
    assert same(source, begun)
    assert same(source, begun, torch.tensor([0, 1, 2]))
    told = labelled_model(("cat", "dog"))
    begun = prepared(told, settings, ("ant", "cat"))
    begun.network.eval()
    old, new = told.network.class_embedding.weight, begun.network.class_embedding.weight
    assert torch.equal(new, old[[2, 0, 2]])
    plain = prepared(told, settings, None)
    plain.network.eval()
    assert plain.embeddings == 0
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(plain(x, 300).eps, told(x, 300).eps, rtol=1e-5, atol=1e-5)
    with pytest.raises(ddim.InputError, match="knows the classes cat, dog and not what no class is"):
        prepared(labelled_model(("cat", "dog"), null=False), settings.changed(init="told"), None)


def test_what_contradicts_the_model_is_refused_by_name(ddim_cli, tmp_path, pictures):
    how = ("train", "--init", "cifar10", "--data", "mine", *FEW)
    refused(ddim_cli(*how, "--ch", 32), "--ch 32 contradicts cifar10, which has 64; leave it out")
    refused(ddim_cli(*how, "--mult", 1, 2), "--mult 1 2 contradicts cifar10, which has 1 2 2")
    refused(ddim_cli(*how, "--channels", 1), "--channels 1 contradicts cifar10, which has 3")
    refused(ddim_cli(*how, "--schedule", "cosine"), "--schedule cosine contradicts cifar10, which has linear")
    refused(ddim_cli(*how, "--size", 34), "sample_size 34 cannot be halved 2 times")
    ddim.save(replace(tiny_model(channels=3), predicts="x0"), tmp_path / "x0")
    refused(ddim_cli("train", "--init", "x0", "--data", "mine"), "predicts x0; only a network that predicts ε or v")
    ddim.save(replace(tiny_model(channels=3), predicts="v"), tmp_path / "v")
    refused(ddim_cli("train", "--init", "v", "--data", "mine", "--loss", "hybrid"), "--loss hybrid needs a network")
    refused(
        ddim_cli("train", "--init", "v", "--data", "mine", "--predict", "eps"),
        "--predict eps contradicts ",
        "v, which has v",
    )
    refused(ddim_cli("train", "--init", "nobody", "--data", "mine"), "nobody: no such model")
    assert not (tmp_path / "runs").exists()


def test_a_resume_needs_nothing_said_again_not_even_the_model(ddim_cli, tmp_path, pictures):
    source = ddim.save(tiny_model(channels=3, size=16), tmp_path / "own")
    how = ("train", "--init", "own", "--data", "mine", "--labels", *FEW)
    assert ddim_cli(*how, "--out", "whole", "--steps", 8, "--no-decay").returncode == 0
    assert ddim_cli(*how, "--no-decay").returncode == 0
    source.rename(tmp_path / "gone")
    result = ddim_cli("train", "--out", "runs/mine", "--resume", "--steps", 8)
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "runs" / "mine") == losses(tmp_path / "whole")
    ours = ddim.load(tmp_path / "runs" / "mine", "cpu")
    assert ours.fingerprint == ddim.load(tmp_path / "whole", "cpu").fingerprint
    assert ours.classes == ("ant", "bee")
    assert ours.facts.notes["init"] == str(source)


def test_from_python_and_from_a_network_of_lucidrains(tmp_path, pictures, alone):
    from ddim.networks.lucidrains_unet import LucidConfig, LucidUNet

    torch.manual_seed(0)
    config = LucidConfig(16, dim=8, init_dim=8, block_out_channels=(8, 16), full_attention=(False, True),
                         heads=(1, 1), head_dims=(8, 8))  # fmt: skip
    network = LucidUNet(config).eval()
    lucid = ddim.Model(network, ddim.schedule.cosine(), (3, 16, 16))
    ddim.save(lucid, tmp_path / "lucid")
    made = ddim.train(
        str(pictures), tmp_path / "run", init=str(tmp_path / "lucid"), device="cpu", steps=2, batch_size=4
    )
    model = ddim.load(made.out, "cpu")
    assert type(model.network).__name__ == "LucidUNet"
    assert not same(lucid, model)
    with pytest.raises(ddim.InputError, match="a LucidUNet takes no classes; leave out --labels"):
        ddim.train(str(pictures), tmp_path / "b", init=str(tmp_path / "lucid"), device="cpu", labels=True)
