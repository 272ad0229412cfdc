import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMPipeline, DDPMScheduler, UNet2DModel
from diffusers.utils.torch_utils import randn_tensor
from safetensors.torch import load_file, save_file
from support.models import tiny_model

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.model import Model
from ddim.errors import InputError
from ddim.system.json import claim

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_what_is_saved_is_loaded(tmp_path: Path, predicts: str):
    model = tiny_model(predicts=predicts)
    back = ddim.load(ddim.save(model, tmp_path / "m"), "cpu")
    assert torch.equal(back.abar, model.abar)
    assert (back.shape, back.predicts) == (model.shape, predicts)
    x = torch.randn(2, *model.shape)
    assert torch.equal(back(x, 300).x0, model(x, 300).x0)
    assert back.fingerprint == model.fingerprint
    assert not any(p.requires_grad for p in back.network.parameters())


@pytest.mark.parametrize(
    ("abar", "name"),
    [
        (schedule.linear(), "linear"),
        (schedule.linear(200, 1e-3, 0.05), "linear"),
        (schedule.scaled_linear(), "scaled_linear"),
        (schedule.cosine(500), "squaredcos_cap_v2"),
        (schedule.from_betas(torch.rand(50, dtype=torch.float64) * 0.1 + 0.01), None),
    ],
)
def test_schedules_are_kept_exactly(tmp_path: Path, abar: torch.Tensor, name: str | None):
    """By name where there is one, else as a list of β; diffusers reads the same levels."""
    folder = ddim.save(replace(tiny_model(), abar=abar), tmp_path)
    torch.testing.assert_close(ddim.load(folder, "cpu").abar, abar, rtol=1e-10, atol=0)
    config = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    assert (config["trained_betas"] is None) == (name is not None)
    if name:
        assert config["beta_schedule"] == name
    theirs = DDPMScheduler.from_pretrained(folder, subfolder="scheduler").alphas_cumprod
    torch.testing.assert_close(theirs, abar[1:].float(), rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_diffusers_opens_it_and_draws_the_same_pictures(tmp_path: Path, spacing: str):
    """ "trailing" is how the folder is written, our linear grid; "leading" is the official one."""
    model = tiny_model(channels=3)
    folder = ddim.save(model, tmp_path)
    pipeline = DDIMPipeline.from_pretrained(folder)
    assert pipeline.scheduler.config.timestep_spacing == "trailing"
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler.register_to_config(timestep_spacing=spacing)
    theirs = pipeline(4, torch.Generator().manual_seed(3), num_inference_steps=20, output_type="np").images
    noise = randn_tensor((4, *model.shape), generator=torch.Generator().manual_seed(3))
    grid = "linear" if spacing == "trailing" else "official-linear"
    ours = ddim.sample(model, steps=20, spacing=grid, noise=noise, clip=False, solver="ddim")
    torch.testing.assert_close(ours.permute(0, 2, 3, 1) / 2 + 0.5, torch.from_numpy(theirs), rtol=0, atol=1e-4)


def test_who_may_read_other_files_may_read_the_weights(tmp_path: Path):
    plain = tmp_path / "plain"
    plain.touch()
    weights = ddim.save(tiny_model(), tmp_path / "model") / WEIGHTS
    assert weights.stat().st_mode == plain.stat().st_mode


def test_half_precision_weights_are_half_the_size(tmp_path: Path):
    model = tiny_model()
    whole = ddim.save(model, tmp_path / "a") / WEIGHTS
    half = ddim.save(model, tmp_path / "b", torch.float16) / WEIGHTS
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    back = ddim.load(tmp_path / "b", "cpu")
    assert next(back.network.parameters()).dtype == torch.float32
    x = torch.randn(2, *model.shape)
    torch.testing.assert_close(back(x, 300).eps, model(x, 300).eps, rtol=0, atol=5e-3)


def damage(name: str):
    def keys(change):
        def apply(folder: Path):
            weights = load_file(folder / WEIGHTS)
            change(weights)
            save_file(weights, folder / WEIGHTS)

        return apply

    return {
        "truncated": lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-1000]),
        "header": lambda f: (f / WEIGHTS).write_bytes(b"garbage"),
        "absent": lambda f: (f / WEIGHTS).unlink(),
        "lacks": keys(lambda w: w.pop("conv_in.weight")),
        "unknown": keys(lambda w: w.update(extra=torch.zeros(1))),
        "shape": keys(lambda w: w.update({"conv_out.bias": torch.zeros(7)})),
        "config": lambda f: (f / "unet/config.json").write_text("{"),
        "no config": lambda f: (f / "unet/config.json").unlink(),
        "schedule": lambda f: (f / "scheduler/scheduler_config.json").write_text('{"beta_schedule": "sigmoid"}'),
    }[name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("truncated", "safetensors: truncated"),
        ("header", "truncated or not safetensors"),
        ("absent", "no such file"),
        ("lacks", "lacks conv_in.weight"),
        ("unknown", "has unknown extra"),
        ("shape", "another shape for conv_out.bias"),
        ("config", "config.json: cannot be read as JSON"),
        ("no config", "config.json"),
        ("schedule", "sigmoid"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path: Path, name: str, words: str):
    ddim.save(tiny_model(), tmp_path)
    damage(name)(tmp_path)
    with pytest.raises(InputError, match=words):
        ddim.load(tmp_path, "cpu")


def test_an_unknown_model_lists_the_bundled_ones(tmp_path: Path):
    with pytest.raises(InputError, match="no such model; name a folder, a Hub id, or one of"):
        ddim.load("nothing")


def test_a_failed_save_keeps_what_was_there(tmp_path: Path, monkeypatch):
    import safetensors.torch

    folder = ddim.save(tiny_model(seed=0), tmp_path)
    before = (folder / WEIGHTS).read_bytes()

    def full(tensors, path, metadata=None):
        Path(path).write_bytes(b"half of it")
        raise safetensors.SafetensorError("Error while serializing: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(InputError, match="no room to write it"):
        ddim.save(tiny_model(seed=1), tmp_path)
    assert (folder / WEIGHTS).read_bytes() == before
    assert not list(folder.rglob(".ddim-part-*"))


def test_a_settings_file_guards_a_folder(tmp_path: Path):
    claim(tmp_path / "s.json", {"seed": 0, "times": (3, 0)})
    claim(tmp_path / "s.json", {"seed": 0, "times": (3, 0)})
    with pytest.raises(InputError, match="seed 0, not 1"):
        claim(tmp_path / "s.json", {"seed": 1, "times": (3, 0)})


def test_a_network_of_diffusers_opens_here(tmp_path: Path):
    """A pipeline folder written by diffusers itself."""
    unet = UNet2DModel(**vars(tiny_model().network.config)).eval()
    DDIMPipeline(unet=unet, scheduler=DDPMScheduler(1000)).save_pretrained(tmp_path)
    model: Model = ddim.load(tmp_path, "cpu")
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(x, 500).eps, unet(x, 499).sample, rtol=1e-5, atol=1e-5)


def test_a_record_that_is_no_record_is_passed_over(tmp_path: Path):
    folder = ddim.save(tiny_model(), tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"ddim": 3}))
    assert ddim.load(folder, "cpu").facts.classes is None
