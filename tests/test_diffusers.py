"""Folders of diffusers: opened here with diffusers' own outputs, and written here so that diffusers opens them."""

import json

import pytest
import torch
from layouts import randomise
from safetensors.torch import save_file

import ddim
from ddim import config, schedule, weights
from ddim.errors import InputError
from ddim.model import Model
from ddim.unet import UNet

diffusers = pytest.importorskip("diffusers")
DDPM = {
    "act_fn": "silu",
    "attention_head_dim": None,
    "center_input_sample": False,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "time_embedding_type": "positional",
}
D, AD, RD, U, AU, RU = (
    *("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"),
    *("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
)
# google/ddpm-cifar10-32; google/ddpm-celebahq-256, -bedroom-256, -church-256, -cat-256 and their -ema- twins
LSUN = {
    **DDPM,
    "sample_size": 256,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": [D, D, D, D, AD, D],
    "up_block_types": [U, AU, U, U, U, U],
}
PUBLISHED = {
    "cifar10-32": {
        **DDPM,
        "sample_size": 32,
        "block_out_channels": [128, 256, 256, 256],
        "down_block_types": [D, AD, D, D],
        "up_block_types": [U, U, AU, U],
    },
    "celebahq-256": LSUN,
    "bedroom-256": LSUN,
    "church-256": LSUN,
    "cat-256": LSUN,
}
SMALL = {
    **DDPM,
    "sample_size": 16,
    "block_out_channels": [16, 32],
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "down_block_types": [D, AD],
    "up_block_types": [AU, U],
}
# Each changes the output of a network with the same weights, so that ignoring one cannot pass.
FIELDS = {
    "as it is": {},
    "flip_sin_to_cos": {"flip_sin_to_cos": True},
    "freq_shift": {"freq_shift": 0},
    "downsample_padding": {"downsample_padding": 1},
    "norm_eps": {"norm_eps": 1e-2},
    "attention_head_dim": {"attention_head_dim": 4},
    "add_attention": {"add_attention": False},
    "mid_block_scale_factor": {"mid_block_scale_factor": 1.5},
    "scale_shift": {"resnet_time_scale_shift": "scale_shift"},
    "attn_norm_num_groups": {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4},
    "center_input_sample": {"center_input_sample": True},
    "time_embedding_dim": {"time_embedding_dim": 24},
    "layers_per_block": {"layers_per_block": 3},
    "learned variance": {"out_channels": 6},
    "greyscale": {"in_channels": 1, "out_channels": 1},
    "resnet resampling": {"downsample_type": "resnet", "upsample_type": "resnet"},
    "resnet blocks": {"down_block_types": [RD, AD], "up_block_types": [AU, RU], "upsample_type": "resnet"},
    "attention in one half": {"down_block_types": [D, D], "up_block_types": [U, AU]},
    "not square": {"sample_size": [16, 8]},
}


def theirs(fields: dict, seed: int = 0):
    return randomise(diffusers.UNet2DModel(**fields), seed)


def folder(path, fields: dict, scheduler: dict | None = None, kind="DDPMScheduler", **saving):
    """A pipeline folder as diffusers writes it; returns its U-Net."""
    unet = theirs(fields)
    scheduler = getattr(diffusers, kind)(**(scheduler or {}))
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(path, **saving)
    return unet


def agree(model: Model, unet, size=None, T: int = 1000) -> float:
    """The largest difference between the two networks' outputs, relative to the output's size, at three times."""
    c, h, w = model.shape
    h, w = size or (h, w)
    x = torch.randn(2, c, h, w, generator=torch.Generator().manual_seed(1))
    worst = 0.0
    for index in (0, T // 3, T - 1):
        with torch.no_grad():
            expected = unet(x, torch.tensor(index)).sample
            got = model.network(x, torch.full((2,), index))
        worst = max(worst, ((got - expected).abs().max() / expected.abs().max()).item())
    return worst


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_is_honoured(name, tmp_path):
    unet = folder(tmp_path, {**SMALL, **FIELDS[name]})
    model = ddim.load(tmp_path, "cpu")
    assert agree(model, unet) < 1e-5
    if FIELDS[name]:  # the field matters: without it the outputs differ, or the weights do not fit
        file = tmp_path / "unet/config.json"
        without = {k: v for k, v in json.loads(file.read_text()).items() if k not in FIELDS[name]}
        file.write_text(json.dumps(without | {k: SMALL[k] for k in FIELDS[name] if k in SMALL}))
        try:
            other = ddim.load(tmp_path, "cpu")
        except InputError:
            return
        assert other.shape != model.shape or agree(other, unet) > 1e-4


@pytest.mark.parametrize(("name", "size"), [("cifar10-32", 16), ("celebahq-256", 64)])
def test_published_networks_at_their_real_widths(name, size):
    """CIFAR-10's, and the one network of CelebA-HQ, bedroom, church and cat; fewer pixels, the same weights."""
    unet = theirs(PUBLISHED[name])
    with torch.device("meta"):
        network = UNet(config.unet_of(unet.config))
    weights.assign(network, unet.state_dict(), "here")
    c, s = network.config, network.config.sample_size
    assert (c.block_out_channels, s) == (tuple(PUBLISHED[name]["block_out_channels"]), PUBLISHED[name]["sample_size"])
    assert agree(Model(network, schedule.linear(), (3, s, s)), unet, (size, size)) < 1e-5


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_our_parameters(name):
    with torch.device("meta"):
        unet = diffusers.UNet2DModel(**PUBLISHED[name])
        ours = UNet(config.unet_of(PUBLISHED[name]))
    shapes = {key: value.shape for key, value in unet.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes


@pytest.mark.parametrize("new_names", [True, False])
@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_layouts_of_a_folder(nested, safe, new_names, tmp_path):
    """unet/ and scheduler/ or everything at the root; safetensors or .bin; attention names of today or of old."""
    unet = folder(tmp_path, SMALL, safe_serialization=safe)
    suffix = "safetensors" if safe else "bin"
    file = tmp_path / f"unet/diffusion_pytorch_model.{suffix}"
    if not new_names:
        old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        state = {}
        for key, value in unet.state_dict().items():
            for new, name in old.items():
                key = key.replace(f".{new}.", f".{name}.")
            state[key] = value
        assert any("proj_attn" in key for key in state)
        save_file(state, file) if safe else torch.save(state, file)
    if not nested:
        for part in [*(tmp_path / "unet").iterdir(), *(tmp_path / "scheduler").iterdir()]:
            part.rename(tmp_path / part.name)
        (tmp_path / "unet").rmdir()
    model = ddim.load(tmp_path, "cpu")
    assert agree(model, unet) < 1e-5
    assert torch.allclose(model.abar, schedule.linear(), rtol=1e-12)


@pytest.mark.parametrize("kind", ["DDPMScheduler", "DDIMScheduler"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beta_schedule": "linear", "beta_start": 0.0015, "beta_end": 0.0195, "num_train_timesteps": 500},
        {"beta_schedule": "scaled_linear", "beta_start": 8.5e-4, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100},
        {"trained_betas": [0.001 + 0.0002 * i**1.5 for i in range(50)], "num_train_timesteps": 50},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        {"prediction_type": "sample"},
    ],
    ids=str,
)
def test_schedulers(kind, settings, tmp_path):
    """Their cumulative products at every level, and what they make of an output at three times."""
    unet = folder(tmp_path, SMALL, settings, kind)
    model = ddim.load(tmp_path, "cpu")
    scheduler = getattr(diffusers, kind)(**settings)
    expected = scheduler.alphas_cumprod.double()
    if settings.get("rescale_betas_zero_snr"):
        assert model.abar[-1] == 0
        # Theirs is float32 through a difference of products, and DDPMScheduler lifts the last one off zero.
        assert torch.allclose(model.abar[1:], expected, rtol=2e-3, atol=1e-6)
    else:
        assert torch.allclose(model.abar[1:], expected, rtol=2e-4, atol=0)
        assert torch.allclose(model.abar[1:], expected, rtol=0, atol=2e-6)
    x = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(0))
    scheduler = diffusers.DDIMScheduler(**{**settings, "clip_sample": False})
    scheduler.set_timesteps(model.T)
    for t in (model.T - 1, model.T // 2, 2):
        with torch.no_grad():
            out = unet(x, torch.tensor(t - 1)).sample
            x0 = scheduler.step(out, t - 1, x).pred_original_sample
            got = model(x, t).x0
        assert torch.allclose(got, x0, rtol=1e-3, atol=1e-3 * x0.abs().max().item())
