"""Files of weights from other code: read with that code's outputs, completed by options, or refused by name."""

import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from support.layouts import Improved, Lucid, Official, lucid_checkpoint, randomise

import ddim
from ddim.checkpoints import diffusers_config as config
from ddim.checkpoints import keys as convert
from ddim.checkpoints.layouts import official
from ddim.checkpoints.layouts.official import settings
from ddim.diffusion import schedule
from ddim.errors import InputError
from ddim.networks.unet import UNet, UNetConfig


def differ(model, network, T: int = 1000) -> float:
    """The largest difference between outputs at three times."""
    x = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(1))
    worst = 0.0
    for index in (0, T // 3, T - 1):
        t = torch.full((2,), index)
        worst = max(worst, (model.network(x, t) - network(x, t)).abs().max().item())
    return worst


def same(a, b) -> bool:
    """Whether two models have bitwise the same weights, the same schedule and the same network."""
    return a.fingerprint == b.fingerprint and a.network.config == b.network.config


@pytest.fixture(scope="module")
def net() -> Official:
    return randomise(Official(), 1)


@pytest.fixture
def training(net, tmp_path):
    """What the official code saves in training; the average is `net`."""
    other = randomise(Official(), 2)
    path = tmp_path / "ckpt.pth"
    optimizer = torch.optim.Adam(Official().parameters()).state_dict()
    trained = {f"module.{k}": v for k, v in other.state_dict().items()}
    torch.save([trained, optimizer, 3, 100, net.state_dict()], path)
    return path, other


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"mult": (1, 1, 2), "layers": 1, "attention": (False, False, True)},
        {"mult": (1, 2), "attention": (True, True), "layers": 3},
        {"mult": (1, 1), "attention": (False, False), "channels": 1},
    ],
    ids=str,
)
def test_converted_weights(shape, tmp_path):
    network = randomise(Official(**shape))
    torch.save(network.state_dict(), tmp_path / "model-790000.ckpt")
    model = ddim.load(tmp_path / "model-790000.ckpt", "cpu", image_size=16)
    assert differ(model, network) < 1e-5
    assert torch.equal(model.abar, schedule.linear())
    assert model.predicts == "eps"


def test_converted_weights_as_safetensors_and_in_the_old_format(net, tmp_path):
    save_file(net.state_dict(), tmp_path / "a.safetensors")
    torch.save(net.state_dict(), tmp_path / "b.ckpt", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "b.ckpt"):
        assert differ(ddim.load(tmp_path / name, "cpu", image_size=16), net) < 1e-5


def test_training_checkpoint_gives_its_average_or_the_raw_weights(training, net):
    path, other = training
    model = ddim.load(path, "cpu", image_size=16)
    assert differ(model, net) < 1e-5
    assert "averaged" in model.facts.layout
    model = ddim.load(path, "cpu", image_size=16, raw=True)
    assert differ(model, other) < 1e-5
    assert "as trained" in model.facts.layout


def test_training_checkpoint_without_average(training, net):
    path, other = training
    torch.save(torch.load(path, weights_only=True)[:4], path)
    assert differ(ddim.load(path, "cpu", image_size=16), other) < 1e-5


def test_published_sizes_and_what_was_assumed(tmp_path):
    network = randomise(Official(mult=(1, 2, 2, 2), layers=1, attention=(False, True, False, False)))
    torch.save(network.state_dict(), tmp_path / "cifar.ckpt")
    model = ddim.load(tmp_path / "cifar.ckpt", "cpu")
    assert model.shape == (3, 32, 32)
    assert model.facts.assumed == {"image size": 32, "dropout": 0.1, "T": 1000, "schedule": "linear"}
    model = ddim.load(tmp_path / "cifar.ckpt", "cpu", image_size=64, T=200, schedule="cosine", dropout=0.2)
    assert model.shape == (3, 64, 64)
    assert torch.equal(model.abar, schedule.cosine(200))
    assert not model.facts.assumed


def test_config_yml_beside_the_checkpoint(training):
    """As the official code writes it, with tags of Python objects; options win over it."""
    path, _ = training
    path.with_name("config.yml").write_text(
        "data: !!python/object:argparse.Namespace\n  image_size: 16\n  dataset: CIFAR10\n"
        "diffusion: !!python/object:argparse.Namespace\n  beta_end: 0.012\n  beta_schedule: quad\n"
        "  beta_start: 0.00085\n  num_diffusion_timesteps: 500\nmodel:\n  dropout: 0.3\n"
    )
    model = ddim.load(path, "cpu")
    assert model.shape == (3, 16, 16)
    assert torch.equal(model.abar, schedule.scaled_linear(500, 8.5e-4, 0.012))
    assert model.network.config.dropout == 0.3
    assert ddim.load(path, "cpu", T=100).T == 100
    path.with_name("config.yml").write_text("beta_schedule: jsd\n")
    with pytest.raises(InputError, match="jsd"):
        ddim.load(path, "cpu")


VARIANTS = {
    "as published": ({}, {}),
    "one head": ({"heads": 1}, {"num_heads": 1}),
    "no modulation": ({"modulate": False, "mult": (1, 2), "attention": (False, True)}, {}),
    "heads at two widths": ({"attention": (True, False, True)}, {}),
    "learned variance, 4000 times": ({"out": 6, "time_scale": 0.25}, {"T": 4000, "schedule": "cosine"}),
    "times as they are": ({}, {"T": 500, "rescale_timesteps": False}),
    "residual resampling": ({"updown": True}, {}),
    "residual resampling, no attention": ({"updown": True, "attention": (False,) * 3, "layers": 1}, {}),
    "kinds before heads": ({"by_kind": True}, {"new_attention_order": True}),
    "head channels": ({"heads": 2}, {"num_head_channels": 32}),
    "one resolution": ({"mult": (1,), "attention": (True,), "layers": 3}, {}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_improved_and_guided_diffusion(name, tmp_path):
    shape, options = VARIANTS[name]
    network = randomise(Improved(**shape))
    torch.save(network.state_dict(), tmp_path / "ema.pt")
    model = ddim.load(tmp_path / "ema.pt", "cpu", image_size=16, **options)
    assert differ(model, network, model.T) < 1e-5
    again = ddim.load(ddim.save(model, tmp_path / "folder"), "cpu")
    assert same(again, model)
    assert differ(again, network, model.T) < 1e-5


def test_class_conditional_guided_diffusion(tmp_path):
    """K labels and none of no class: a class is needed, and there is nothing to guide away from."""
    network = randomise(Improved(classes=5))
    torch.save(network.state_dict(), tmp_path / "cond.pt")
    model = ddim.load(tmp_path / "cond.pt", "cpu", image_size=16, num_heads=4)
    assert model.classes == ("0", "1", "2", "3", "4")
    assert model.null_label is None
    x, y = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 4, 2])
    t = torch.full((3,), 600)
    assert (ddim.guided(model, y)(x, 601).eps - network(x, t, y)[:, :3]).abs().max() < 1e-5
    for call in (lambda: ddim.sample(model, n=1, steps=1), lambda: model(x, 5)):
        with pytest.raises(InputError, match="of a class only: give a label, a number from 0 to 4"):
            call()
    with pytest.raises(InputError, match="cannot be guided: leave out guidance"):
        ddim.sample(model, n=1, steps=1, label=0, guidance=2)
    saved = ddim.load(ddim.save(model, tmp_path / "saved"), "cpu")
    assert same(saved, model)
    assert saved.null_label is None
    for source in ("cond.pt", "saved"):  # of other training, whose last label is of none: the caller knows
        options = {"image_size": 16, "num_heads": 4} if source == "cond.pt" else {}
        told = ddim.load(tmp_path / source, "cpu", null_label=True, **options)
        assert (told.classes, told.null_label) == (("0", "1", "2", "3"), 4)
    assert ddim.load(ddim.save(told, tmp_path / "told"), "cpu").null_label == 4
    with pytest.raises(InputError, match="a model folder says this itself; leave out --null-label"):
        ddim.load(tmp_path / "told", "cpu", null_label=True)
    with pytest.raises(InputError, match="digits: knows no classes; leave out --null-label"):
        ddim.load("digits", "cpu", null_label=True)
    with pytest.raises(InputError, match=r"the official code cannot express .*num_class_embeds 5"):
        official.save(model, tmp_path / "official")


def test_improved_diffusion_keeps_its_variance_and_says_what_it_assumes(tmp_path, caplog):
    torch.save(randomise(Improved(out=6)).state_dict(), tmp_path / "ema.pt")
    model = ddim.load(tmp_path / "ema.pt", "cpu", image_size=16)
    assert not caplog.records
    assert model.facts.assumed == {"heads": 4, "T": 1000, "schedule": "linear"}
    x, prediction = torch.zeros(1, 3, 16, 16), model(torch.zeros(1, 3, 16, 16), 5)
    assert torch.equal(torch.cat([prediction.eps, prediction.variance], 1), model.network(x, torch.tensor([4])))


def test_linear_schedule_of_improved_diffusion_scales_with_T(tmp_path):
    torch.save(randomise(Improved()).state_dict(), tmp_path / "ema.pt")
    model = ddim.load(tmp_path / "ema.pt", "cpu", image_size=16, T=4000)
    assert torch.equal(model.abar, schedule.linear(4000, 2.5e-5, 0.005))


@pytest.mark.parametrize("objective", ["eps", "x0", "v"])
def test_lucidrains(objective, tmp_path):
    network, averaged = randomise(Lucid(), 1), randomise(Lucid(), 2)
    T = 100
    betas = 1 - schedule.cosine(T)[1:] / schedule.cosine(T)[:-1]
    torch.save(lucid_checkpoint(network, averaged, betas, objective), tmp_path / "model-7.pt")
    model = ddim.load(tmp_path / "model-7.pt", "cpu", image_size=16)
    assert model.predicts == objective  # the weights of its loss tell
    assert torch.allclose(model.abar, schedule.cosine(T), rtol=1e-6, atol=0)
    assert differ(model, averaged, T) < 1e-5
    assert differ(ddim.load(tmp_path / "model-7.pt", "cpu", image_size=16, raw=True), network, T) < 1e-5
    assert ddim.load(tmp_path / "model-7.pt", "cpu", image_size=16, objective="x0").predicts == "x0"
    again = ddim.load(ddim.save(model, tmp_path / "folder"), "cpu")
    assert same(again, model)
    assert differ(again, averaged, T) < 1e-5


def test_lucidrains_without_weights_of_its_loss(tmp_path):
    torch.save({f"model.{k}": v for k, v in randomise(Lucid()).state_dict().items()}, tmp_path / "m.pt")
    model = ddim.load(tmp_path / "m.pt", "cpu", image_size=16)
    assert (model.predicts, model.facts.assumed) == ("v", {"T": 1000, "schedule": "linear", "objective": "v"})


def test_round_trips_through_the_official_layout_are_bitwise(training, net, tmp_path):
    path, _ = training
    model = ddim.load(path, "cpu", image_size=16)
    one = ddim.load(ddim.save(model, tmp_path / "one"), "cpu")
    written = official.save(one, tmp_path / "two")
    two = ddim.load(written, "cpu")
    assert same(one, model)
    assert same(two, model)
    trained, optimizer, epoch, step, averaged = torch.load(written, weights_only=True)
    assert (optimizer, epoch, step) == ({}, 0, 0)
    for states in (averaged, {k.removeprefix("module."): v for k, v in trained.items()}):
        assert states.keys() == net.state_dict().keys()
        assert all(torch.equal(value, net.state_dict()[key]) for key, value in states.items())
    assert written.stat().st_size < 1.2 * sum(4 * v.numel() for v in averaged.values())  # stored once
    assert settings(written) == {
        **{"image_size": 16, "T": 1000, "schedule": "linear", "beta_1": 1e-4, "beta_T": 0.02, "dropout": 0.1}
    }


def model_of(**fields) -> ddim.Model:
    c = UNetConfig(**{"sample_size": 16, "block_out_channels": (32, 64), **fields})
    c = replace(c, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    return ddim.Model(UNet(c), schedule.linear(), (3, 16, 16))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"norm_num_groups": 16}, "norm_num_groups 16"),
        ({"flip_sin_to_cos": True}, "flip_sin_to_cos"),
        ({"attention_head_dim": 8}, "attention_head_dim 8"),
        ({"block_out_channels": (64, 96)}, "block_out_channels"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        ({"add_attention": False}, "add_attention"),
    ],
    ids=str,
)
def test_what_the_official_code_cannot_express_is_refused_by_name(fields, named, tmp_path):
    with pytest.raises(InputError, match=named):
        official.save(model_of(**fields), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_the_official_code_can_express_is_not_refused(tmp_path):
    official.save(model_of(attention_head_dim=64), tmp_path / "out")
    for change in ({"predicts": "v"}, {"abar": schedule.cosine()}):
        with pytest.raises(InputError, match="cannot express"):
            official.save(replace(model_of(), **change), tmp_path / "other")


def spoil(state: dict, how: str) -> dict:
    if how == "missing":
        return {k: v for k, v in state.items() if k not in ("mid.attn_1.q.bias", "norm_out.weight")}
    if how == "shape":
        return {**state, "mid.block_1.conv1.weight": torch.zeros(64, 64, 1, 1)}
    if how == "unknown":
        return {**state, "label_emb.weight": torch.zeros(3)}
    return {k: v for k, v in state.items() if k != "conv_in.weight"}


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("missing", "lacks mid.attn_1.q.bias, norm_out.weight"),
        ("shape", "another shape for mid.block_1.conv1.weight"),
        ("unknown", "unknown label_emb.weight"),
        ("first", "lacks conv_in.weight"),
    ],
)
def test_keys_that_differ_are_named_as_the_file_has_them(net, how, named, tmp_path):
    torch.save(spoil(net.state_dict(), how), tmp_path / "m.ckpt")
    with pytest.raises(InputError, match=named) as caught:
        ddim.load(tmp_path / "m.ckpt", "cpu", image_size=16)
    assert str(caught.value).startswith(f"{tmp_path / 'm.ckpt'}: ")
    assert "\n" not in str(caught.value)


class Evil:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('ran').touch()",))


def test_code_is_not_run(net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({**net.state_dict(), "x": Evil()}, "evil.ckpt")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.ckpt", "evil.pkl"):
        with pytest.raises(InputError, match="safely"):
            ddim.load(tmp_path / name, "cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 10, 5000, -100])
@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_truncated_files(net, keep, suffix, tmp_path):
    path = tmp_path / f"m.{suffix}"
    save_file(net.state_dict(), path) if suffix == "safetensors" else torch.save(net.state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=str(path)) as caught:
        ddim.load(path, "cpu", image_size=16)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            {"a.weight": torch.zeros(1), "b": torch.ones(2)},
            "no layout that is known here; its first keys are a.weight",
        ),
        ([1, 2], "no state dict"),
        ({}, "no state dict"),
        ({"conv_in.weight": torch.zeros(1)}, "name the model's folder"),
    ],
    ids=str,
)
def test_files_of_none_of_these(content, told, tmp_path):
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(InputError, match=told):
        ddim.load(tmp_path / "m.pt", "cpu")


def test_options_that_cannot_be(net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "m.ckpt")
    for options, told in [
        ({}, "give --image-size"),
        ({"image_size": 18}, "cannot be halved"),
        ({"image_size": 16, "raw": True}, "leave out --raw"),
        ({"image_size": 16, "beta_1": 0.5}, "--beta-1"),
        ({"image_size": 16, "T": 0}, "--T"),
    ]:
        with pytest.raises(InputError, match=told):
            ddim.load(tmp_path / "m.ckpt", "cpu", **options)


def test_names_are_one_to_one():
    """No two of our parameters share a foreign name but q, k and v of a joint tensor."""
    c = config.unet_of(
        {"block_out_channels": [32, 64, 64], "down_block_types": ["AttnDownBlock2D"] * 3}
        | {
            "up_block_types": ["AttnUpBlock2D"] * 3,
            "sample_size": 16,
            "layers_per_block": 2,
            "attention_head_dim": None,
        }
    )
    with torch.device("meta"):
        keys = list(UNet(c).state_dict())
    assert len({convert.official_name(key, c) for key in keys}) == len(keys)
    joint = sum(".to_k." in key or ".to_v." in key for key in keys)
    assert len({convert.improved_name(key, c) for key in keys}) == len(keys) - joint


CONFIG_YML = """data: !!python/object:argparse.Namespace
  image_size: 16   # cropped
  rescaled: true
diffusion: !!python/object:argparse.Namespace
  beta_schedule: 'quad'
  "beta_start": 1e-4
  beta_end: 0.03  # as in the paper
  num_diffusion_timesteps: 200
model: {dropout: 0.25, resamp_with_conv: true}
device: !!python/object/apply:torch.device [cuda]
run: !!python/object/apply:os.system ["touch ran"]
"""


def test_config_yml_is_read_as_yaml(training, monkeypatch, tmp_path):
    """Comments, quotes, flow style, tags of Python objects; nothing of it is run."""
    path, _ = training
    monkeypatch.chdir(tmp_path)
    for mark in ("", "\ufeff"):
        path.with_name("config.yml").write_text(mark + CONFIG_YML, encoding="utf-8")
        model = ddim.load(path, "cpu")
        assert model.shape == (3, 16, 16)
        assert torch.equal(model.abar, schedule.scaled_linear(200, 1e-4, 0.03))
        assert model.network.config.dropout == 0.25
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("image_size: 16 ", "image_size: '16' ", 'image_size must be a whole number; got "16"'),
        ("image_size: 16 ", "image_size: 16.5 ", "image_size must be a whole number; got 16.5"),
        ("image_size: 16 ", "image_size: -4 ", "image_size"),
        ("'quad'", "'cosine'", "beta_schedule cosine is not supported: linear, quad"),
        ("'quad'", "[linear]", "beta_schedule must be a text"),
        ("1e-4", "small", 'beta_start must be a number; got "small"'),
        ("0.03 ", ".nan ", "beta_end must be a number; got NaN"),
        ("timesteps: 200", "timesteps: true", "num_diffusion_timesteps must be a whole number; got true"),
        ("rescaled: true", "rescaled: false", "data.rescaled False is not supported: True"),
        ("resamp_with_conv: true", "resamp_with_conv: false", "model.resamp_with_conv False is not supported"),
        ("model: {", "model: {{", "cannot be read as YAML"),
        ("data: ", "data: &a [*a]\nother: ", "image size"),
        (CONFIG_YML, "[1, 2]", "not a YAML mapping"),
        (CONFIG_YML, "", "not a YAML mapping"),
        (CONFIG_YML, "[" * 100_000, "cannot be read as YAML"),
        (CONFIG_YML, "a: \x01", "cannot be read as YAML"),
    ],
    ids=lambda text: text[:24],
)
def test_a_config_yml_that_cannot_be_is_refused(training, old, new, said):
    path, _ = training
    beside = path.with_name("config.yml")
    beside.write_text(CONFIG_YML.replace(old, new))
    with pytest.raises(InputError) as caught:
        ddim.load(path, "cpu")
    assert said in str(caught.value) or "the size of its images" in str(caught.value)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_that_is_in_the_way_of_the_official_layout_is_told_at_once(tmp_path):
    model = replace(model_of(norm_num_groups=16, flip_sin_to_cos=True), predicts="v", abar=schedule.cosine())
    with pytest.raises(InputError) as caught:
        official.save(model, tmp_path / "out")
    for what in ("objective v", "noise schedule", "norm_num_groups 16", "flip_sin_to_cos True"):
        assert what in str(caught.value)
