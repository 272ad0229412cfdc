"""ddim convert and ddim info on files from other code."""

import pytest
import torch
from support.layouts import Improved, Lucid, Official, lucid_checkpoint, randomise

import ddim
from ddim.cli import main as cli
from ddim.diffusion import schedule


def run(capsys, *args: object) -> tuple[int, str, str]:
    status = cli.main([*map(str, args)])
    told = capsys.readouterr()
    return status, told.out, told.err


@pytest.fixture
def official(tmp_path):
    """A checkpoint of the official code with an average, the weights as trained and the averaged ones."""
    trained, averaged = (
        randomise(Official(mult=(1, 2), attention=(False, True)), 1),
        randomise(Official(mult=(1, 2)), 2),
    )
    averaged = randomise(Official(mult=(1, 2), attention=(False, True)), 2)
    path = tmp_path / "ckpt.pth"
    prefixed = {f"module.{k}": v for k, v in trained.state_dict().items()}
    torch.save([prefixed, {}, 1, 2, averaged.state_dict()], path)
    return path, trained, averaged


def test_to_a_model_folder_and_back(tmp_path, official, capsys):
    path, trained, averaged = official
    for flags, network in {("--no-raw",): averaged, ("--raw",): trained}.items():
        folder, back = tmp_path / f"model{flags[0]}", tmp_path / f"back{flags[0]}"
        status, out, _ = run(capsys, "convert", path, folder, "--image-size", 16, *flags, "--to", "diffusers")
        assert (status, out.splitlines()[-2]) == (0, f"model: {folder}")
        assert "layout: the official DDIM code, " in out
        assert "assumed: dropout 0.1, T 1000, schedule linear" in out
        status, out, _ = run(capsys, "convert", folder, back, "--to", "official")
        assert (status, out.splitlines()[-1]) == (0, f"checkpoint: {back / 'ckpt.pth'}")
        state = torch.load(back / "ckpt.pth", weights_only=True)[-1]
        assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
        for name in (back, back / "ckpt.pth"):  # config.yml beside it says what the weights do not
            status, out, _ = run(capsys, "info", name)
            assert (status, ddim.load(folder, "cpu").fingerprint in out) == (0, True)


def test_options_reach_the_folder(tmp_path, capsys):
    torch.save(randomise(Improved(heads=2)).state_dict(), tmp_path / "ema.pt")
    flags = ("--image-size", 16, "--num-heads", 2, "--schedule", "cosine", "--T", 100, "--objective", "v")
    assert run(capsys, "convert", tmp_path / "ema.pt", tmp_path / "m", *flags, "--dropout", 0.3)[0] == 0
    model = ddim.load(tmp_path / "m", "cpu")
    assert torch.equal(model.abar, schedule.cosine(100))
    assert (model.predicts, model.shape, model.network.config.dropout) == ("v", (3, 16, 16), 0.3)
    assert model.network.config.time_scale == 10
    status, out, _ = run(capsys, "info", tmp_path / "ema.pt", *flags)
    assert status == 0
    assert "16×16" in out
    assert "T = 100" in out


def test_what_diffusers_cannot_express(tmp_path, capsys):
    betas = 1 - schedule.linear(50)[1:] / schedule.linear(50)[:-1]
    torch.save(lucid_checkpoint(Lucid(), Lucid(), betas, "v"), tmp_path / "model-1.pt")
    asked = ("convert", tmp_path / "model-1.pt", tmp_path / "m", "--image-size", 16)
    status, _, err = run(capsys, *asked, "--to", "diffusers")
    assert (status, err.count("\n")) == (2, 1)
    assert "diffusers cannot express LucidUNet" in err
    assert not (tmp_path / "m").exists()
    status, out, _ = run(capsys, *asked)
    assert status == 0
    assert "only ddim opens it" in out
    status, _, err = run(capsys, *asked)
    assert status == 2
    assert "is there already; name another folder" in err
