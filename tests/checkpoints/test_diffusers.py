"""Folders of diffusers: opened here with diffusers' own outputs, and written here so that diffusers opens them."""

import json

import pytest
import torch
from safetensors.torch import save_file
from support.layouts import randomise

import ddim
from ddim.checkpoints import diffusers_config as config
from ddim.checkpoints import weights
from ddim.diffusion import schedule
from ddim.diffusion.model import Model
from ddim.diffusion.solvers import with_noise
from ddim.diffusion.walk import last, walk
from ddim.errors import InputError
from ddim.networks.unet import UNet

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


def small(**fields) -> Model:
    """A model of 20 levels that stands for a trained run: written by the library, opened by diffusers."""
    c = config.narrowest(
        {"sample_size": 8, "block_out_channels": (16, 32), "norm_num_groups": 8, "layers_per_block": 1}
        | {"down_block_types": (D, AD), "up_block_types": (AU, U), **fields}
    )
    return Model(randomise(UNet(c)), schedule.linear(20, 1e-3, 0.3), (c.in_channels, 8, 8))


def test_diffusers_ddim_pipeline_paints_our_pictures(tmp_path):
    model = small()
    pipeline = diffusers.DDIMPipeline.from_pretrained(ddim.save(model, tmp_path))
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(3, *model.shape, generator=torch.Generator().manual_seed(5))
    for steps in (20, 5):
        generator = torch.Generator().manual_seed(5)
        theirs = pipeline(3, generator, num_inference_steps=steps, output_type="np").images  # (3, H, W, C) in [0, 1]
        ours = ddim.sample(model, steps=steps, noise=noise, clip=False, solver="ddim")
        assert torch.allclose(ours.permute(0, 2, 3, 1) / 2 + 0.5, torch.from_numpy(theirs), atol=1e-5)
        assert ours.std() > 0.1


def test_diffusers_ddpm_pipeline_paints_our_pictures(tmp_path):
    model = small()
    pipeline = diffusers.DDPMPipeline.from_pretrained(ddim.save(model, tmp_path))
    pipeline.scheduler = diffusers.DDPMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(2, torch.Generator().manual_seed(5), num_inference_steps=model.T, output_type="np").images
    generator = torch.Generator().manual_seed(5)
    draws = (torch.randn(2, *model.shape, generator=generator) for _ in range(model.T))  # in the order it draws them
    x = next(draws)
    with torch.no_grad():
        ours = last(walk(model, x, list(range(model.T, -1, -1)), with_noise("ddim", 1.0, "small", draws))).x.clamp(
            -1, 1
        )
    assert torch.allclose(ours.permute(0, 2, 3, 1) / 2 + 0.5, torch.from_numpy(theirs), atol=1e-5)
    assert ours.std() > 0.1


def test_clip_sample_is_kept(tmp_path):
    """Clipping is the sampler's choice here; that a folder asks for it is told, and written back."""
    folder(tmp_path / "a", SMALL, {"clip_sample": True})
    folder(tmp_path / "b", SMALL, {"clip_sample": False})
    assert ddim.load(tmp_path / "a", "cpu").facts.clip == ddim.Clip()
    assert ddim.load(tmp_path / "b", "cpu").facts.clip is False
    for name, kept in {"a": True, "b": False}.items():
        copy = ddim.save(ddim.load(tmp_path / name, "cpu"), tmp_path / "copy")
        assert json.loads((copy / "scheduler/scheduler_config.json").read_text())["clip_sample"] is kept


@pytest.mark.parametrize("settings", [{}, {"trained_betas": [0.001 * i**1.3 for i in range(1, 51)]}], ids=str)
def test_a_round_trip_is_bitwise(settings, tmp_path):
    unet = folder(tmp_path / "theirs", SMALL, settings and {**settings, "num_train_timesteps": 50})
    one = ddim.load(tmp_path / "theirs", "cpu")
    two = ddim.load(ddim.save(one, tmp_path / "ours"), "cpu")
    assert one.fingerprint == two.fingerprint
    assert one.network.config == two.network.config
    back = diffusers.UNet2DModel.from_pretrained(tmp_path / "ours", subfolder="unet")
    assert all(torch.equal(value, unet.state_dict()[key]) for key, value in back.state_dict().items())


@pytest.mark.parametrize("fields", [{"num_heads": 4}, {"patch": 2}], ids=str)
def test_what_diffusers_cannot_express_it_refuses(fields: dict, tmp_path):
    model = small(**fields)
    with pytest.raises((ValueError, AttributeError, OSError, ImportError)):
        diffusers.DDIMPipeline.from_pretrained(ddim.save(model, tmp_path))
    back = ddim.load(tmp_path, "cpu")
    assert back.network.config == model.network.config
    assert back.fingerprint == model.fingerprint


def test_class_conditional_folders_of_diffusers(tmp_path):
    """K labels, of which its config does not say that one is of no class."""
    torch.manual_seed(0)
    theirs = diffusers.UNet2DModel(**SMALL | {"num_class_embeds": 5}).eval()
    theirs.save_pretrained(tmp_path)
    model = ddim.load(tmp_path, "cpu", T=1000)
    assert (model.classes, model.null_label) == (tuple("01234"), None)
    size = SMALL["sample_size"]
    x, labels = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1)), torch.tensor([4, 0, 2])
    with torch.no_grad():
        expected = theirs(x, torch.full((3,), 600), class_labels=labels).sample
    torch.testing.assert_close(ddim.guided(model, labels)(x, 601).eps, expected, rtol=1e-5, atol=1e-5)


def test_other_kinds_of_class_embedding_are_refused_in_words(tmp_path):
    for kind in ("timestep", "identity"):
        diffusers.UNet2DModel(**SMALL | {"class_embed_type": kind}).save_pretrained(tmp_path / kind)
        with pytest.raises(InputError, match=f"class_embed_type '{kind}' is not supported: classes are known by"):
            ddim.load(tmp_path / kind, "cpu")


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    "fields",
    [
        {"act_fn": "gelu"},
        {"time_embedding_type": "fourier"},
        {"class_embed_type": "timestep"},
        {"mid_block_type": None},
        {"down_block_types": [D, "SkipDownBlock2D"]},
        {"up_block_types": ["CrossAttnUpBlock2D", U]},
        {"resnet_time_scale_shift": "ada_group"},
        {"block_out_channels": [16, 32, 64]},
        {"norm_num_groups": 5},
        {"attention_head_dim": 5},
        {"sample_size": [16, 8]},
        {"sample_size": 15},
        {"sample_size": 0},
        {"sample_size": "16"},
        {"in_channels": 4},
        {"out_channels": 5},
        {"out_channels": True},
        {"layers_per_block": 10**9},
        {"layers_per_block": 1.5},
        {"block_out_channels": []},
        {"block_out_channels": [16, -32]},
        {"norm_eps": float("nan")},
        {"freq_shift": 8},
        {"downsample_padding": 2},
        {"dropout": -1.0},
        {"time_embedding_dim": 0},
        {"patch": 3},
        {"act_fn": ["silu"]},
        {"cross_attention_dim": 768},
        {"_class_name": "UNet2DConditionModel"},
    ],
    ids=str,
)
def test_unsupported_networks_are_refused_by_name(fields, tmp_path):
    folder(tmp_path, SMALL)
    edit(tmp_path / "unet/config.json", **fields)
    ((name, value),) = fields.items()
    said = {"_class_name": value, "norm_num_groups": "norm_num_groups 5", "attention_head_dim": "heads"}
    with pytest.raises(InputError, match=str(said.get(name, name))) as caught:
        ddim.load(tmp_path, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"_class_name": "KarrasVeScheduler"}, "KarrasVeScheduler"),
        ({"beta_schedule": "sigmoid"}, "'sigmoid'"),
        ({"prediction_type": "flow"}, "'flow'"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
    ],
    ids=str,
)
def test_unsupported_schedulers_are_refused_by_name(fields, said, tmp_path):
    folder(tmp_path, SMALL)
    edit(tmp_path / "scheduler/scheduler_config.json", **fields)
    with pytest.raises(InputError, match=said):
        ddim.load(tmp_path, "cpu")


def test_other_pipelines_and_spoilt_folders_are_refused(tmp_path):
    folder(tmp_path, SMALL)
    with pytest.raises(InputError, match="--num-heads"):
        ddim.load(tmp_path, "cpu", num_heads=2)
    file = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    with pytest.raises(InputError, match="truncated"):
        ddim.load(tmp_path, "cpu")
    file.unlink()
    with pytest.raises(InputError, match="no such file"):
        ddim.load(tmp_path, "cpu")
    file.write_bytes(whole)
    edit(tmp_path / "model_index.json", vqvae=["diffusers", "VQModel"])
    with pytest.raises(InputError, match="vqvae"):
        ddim.load(tmp_path, "cpu")


def test_a_bare_unet_folder_takes_what_it_does_not_say_from_options(tmp_path):
    unet = theirs({**SMALL, "sample_size": None})
    unet.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="--image-size"):
        ddim.load(tmp_path, "cpu")
    model = ddim.load(tmp_path, "cpu", image_size=16, schedule="cosine", objective="v")
    assert agree(model, unet) < 1e-5
    assert (model.shape, model.predicts) == ((3, 16, 16), "v")
    assert torch.equal(model.abar, schedule.cosine())
    assert model.facts.assumed == {"T": 1000}
