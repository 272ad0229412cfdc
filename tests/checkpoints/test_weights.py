"""Weights as they come: compressed, of other machines, sharded, wrapped, prefixed; or refused by name."""

import json
import sys
import zipfile
from threading import Event, Thread

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.layouts import Improved, Lucid, Official, lucid_checkpoint, randomise
from support.models import tiny_model, tiny_network

import ddim
from ddim.diffusion import schedule
from ddim.errors import InputError

diffusers = pytest.importorskip("diffusers")
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def net() -> Official:
    return randomise(Official(mult=(1, 2), attention=(False, True), layers=1), 1)


def weights_of(path, **options) -> torch.Tensor:
    return ddim.load(path, "cpu", image_size=16, **options).network.conv_in.weight


def repack(source, to, change=lambda name, data: data, kind=zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(to, "w", kind) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))


def test_a_deflated_file_is_read_as_torch_reads_it(net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "plain.ckpt")
    repack(tmp_path / "plain.ckpt", tmp_path / "deflated.ckpt")
    theirs = torch.load(tmp_path / "deflated.ckpt", weights_only=True)
    assert torch.equal(theirs["conv_in.weight"], net.conv_in.weight)
    model = ddim.load(tmp_path / "deflated.ckpt", "cpu", image_size=16)
    assert torch.equal(model.network.conv_in.weight, net.conv_in.weight)
    assert model.fingerprint == ddim.load(tmp_path / "plain.ckpt", "cpu", image_size=16).fingerprint


def test_a_file_of_the_other_byte_order(net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "here.ckpt")
    other = {"little": "big", "big": "little"}[sys.byteorder]

    def swap(name: str, data: bytes) -> bytes:
        if name.endswith("/byteorder"):
            return other.encode()
        if "/data/" in name:
            return (
                torch.frombuffer(bytearray(data), dtype=torch.uint8).view(-1, 4).flip(1).contiguous().numpy().tobytes()
            )
        return data

    repack(tmp_path / "here.ckpt", tmp_path / "there.ckpt", swap, zipfile.ZIP_STORED)
    theirs = torch.load(tmp_path / "there.ckpt", weights_only=True)
    assert torch.equal(theirs["conv_in.weight"], net.conv_in.weight)
    assert torch.equal(weights_of(tmp_path / "there.ckpt"), net.conv_in.weight)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(net, tmp_path, value):
    state = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    state["mid.attn_1.q.weight"].view(-1)[7] = value
    torch.save(state, tmp_path / "m.ckpt")
    with pytest.raises(InputError, match=r"mid\.attn_1\.q\.weight holds NaN or infinite weights"):
        weights_of(tmp_path / "m.ckpt")
    folder = ddim.save(tiny_model(), tmp_path / "m")
    with safe_open(folder / WEIGHTS, "pt") as file:
        own = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    own["conv_out.bias"][0] = value
    save_file(own, folder / WEIGHTS)
    with pytest.raises(InputError, match=r"conv_out\.bias holds NaN or infinite weights"):
        ddim.load(folder, "cpu")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda v: (v * 100).to(torch.int32), "of int32"),
        (lambda v: v > 0, "of bool"),
        (lambda v: v.to(torch.complex64), "of complex64"),
        (lambda v: v.to_sparse(), "sparse"),
        (lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8), "quantised"),
        (lambda v: v.to("meta"), "without data"),
    ],
    ids=["int32", "bool", "complex", "sparse", "quantised", "meta"],
)
def test_tensors_that_are_no_weights_are_refused(net, tmp_path, make, what):
    torch.save({**net.state_dict(), "norm_out.weight": make(net.norm_out.weight)}, tmp_path / "m.ckpt")
    with pytest.raises(InputError, match=f"norm_out.weight is {what}"):
        weights_of(tmp_path / "m.ckpt")


def prefixed(state: dict, prefix: str) -> dict:
    return {f"{prefix}{key}": value for key, value in state.items()}


WRAPPERS = {
    "module.": lambda s: prefixed(s, "module."),
    "_orig_mod.": lambda s: prefixed(s, "_orig_mod."),
    "both": lambda s: prefixed(s, "module._orig_mod."),
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "step": 7},
    "ema": lambda s: {"ema": s, "step": 7},
    "nested ema": lambda s: {"model": prefixed({k: v * 0 for k, v in s.items()}, "module."), "ema": {"module": s}},
    "Lightning": lambda s: {
        **{"state_dict": {**prefixed(s, "model."), "loss.weight": torch.ones(3)}, "global_step": 5},
        "pytorch-lightning_version": "2.0",
    },
}


AVERAGES = {  # weights as trained, s, and their average, a, as training programs keep them side by side
    "prefixes of Lightning": lambda s, a: {"state_dict": prefixed(s, "model.") | prefixed(a, "ema.")},
    "an average with counters": lambda s, a: (
        prefixed(s, "model.") | prefixed(a, "ema_model.module.") | {"ema_model.num_updates": torch.tensor(3)}
    ),
    "parameters in order": lambda s, a: {"model": s, "ema": {"decay": 0.9, "shadow_params": list(a.values())}},
    "ema_state": lambda s, a: {"net": s, "ema_state": a},
    "ema_model_state_dict": lambda s, a: {"model": s, "ema_model_state_dict": a},
}


@pytest.mark.parametrize("name", AVERAGES)
def test_an_average_beside_the_weights_is_taken_and_raw_takes_the_others(name, net, tmp_path):
    trained = net.state_dict()
    average = {key: value * 0.5 for key, value in trained.items()}
    torch.save(AVERAGES[name](trained, average), tmp_path / "m.pt")
    assert torch.equal(weights_of(tmp_path / "m.pt"), average["conv_in.weight"])
    assert torch.equal(weights_of(tmp_path / "m.pt", raw=True), trained["conv_in.weight"])


@pytest.mark.parametrize("name", ["model_ema", "ema"])
def test_an_average_that_cannot_be_read_is_mentioned(name, net, tmp_path, caplog):
    """Latent diffusion's, whose names have lost their dots; a list of other shapes."""
    s = net.state_dict()
    lost = {f"model_ema.{key.replace('.', '')}": value for key, value in s.items()}
    content = {
        "model_ema": {"state_dict": prefixed(s, "model.") | lost},
        "ema": {"model": s, "ema": {"shadow_params": [s["conv_in.weight"]]}},
    }
    torch.save(content[name], tmp_path / "m.pt")
    assert torch.equal(weights_of(tmp_path / "m.pt"), s["conv_in.weight"])
    said = [record.getMessage() for record in caplog.records]
    assert f"{tmp_path / 'm.pt'}: {name}, averaged weights, cannot be read; took the weights as trained" in said


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("layout", ["official", "improved", "lucidrains"])
def test_state_dicts_are_unwrapped(layout, name, tmp_path):
    network = {"official": Official, "improved": Improved, "lucidrains": Lucid}[layout]
    network = randomise(network(mult=(1, 2), **({"attention": (False, True)} if layout != "lucidrains" else {})), 1)
    torch.save(network.state_dict(), tmp_path / "bare.pt")
    torch.save(WRAPPERS[name](network.state_dict()), tmp_path / "wrapped.pt")
    bare, wrapped = (ddim.load(tmp_path / f"{name}.pt", "cpu", image_size=16) for name in ("bare", "wrapped"))
    assert wrapped.fingerprint == bare.fingerprint


def test_odd_keys_and_empty_wrappers_get_a_line(tmp_path):
    for content in ({1: torch.ones(1)}, {"ema": {}}, {"model": {"a": 1}}, {"state_dict": None}, [], [{}, {}, 0, 0], 7):
        torch.save(content, tmp_path / "m.pt")
        with pytest.raises(InputError, match=str(tmp_path / "m.pt")):
            ddim.load(tmp_path / "m.pt", "cpu")


def test_a_key_that_is_no_name_is_refused_by_it(net, tmp_path):
    torch.save(net.state_dict() | {3: torch.ones(1)}, tmp_path / "m.pt")
    with pytest.raises(InputError, match=r"m\.pt: its key 3 is no name of a parameter"):
        ddim.load(tmp_path / "m.pt", "cpu", image_size=16)


def pipeline(seed: int = 0):
    unet = randomise(diffusers.UNet2DModel(**vars(tiny_network().config)), seed)
    return diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler())


def test_a_half_precision_variant(tmp_path):
    made = pipeline()
    made.save_pretrained(tmp_path / "fp32")
    made.to(torch.float16).save_pretrained(tmp_path / "fp16", variant="fp16")
    half = ddim.load(tmp_path / "fp16", "cpu").network
    for key, value in made.unet.state_dict().items():
        assert torch.equal(half.state_dict()[key], value.float())


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards_with_their_index(tmp_path, safe, variant):
    made = pipeline()
    made.save_pretrained(tmp_path)
    for file in (tmp_path / "unet").glob("diffusion*"):
        file.unlink()
    made.unet.save_pretrained(tmp_path / "unet", max_shard_size="10KB", safe_serialization=safe, variant=variant)
    assert len(list((tmp_path / "unet").glob("*-of-*"))) > 2
    network = ddim.load(tmp_path, "cpu").network
    assert all(torch.equal(network.state_dict()[key], value) for key, value in made.unet.state_dict().items())
    shard = next((tmp_path / "unet").glob("*-00002-of-*"))
    shard.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"{shard.name}: no such file"):
        ddim.load(tmp_path, "cpu")
    index = next((tmp_path / "unet").glob("*.index*.json"))
    for places in ({}, "x", {"conv_in.weight": 3}, {"conv_in.weight": "../../elsewhere"}):
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(InputError, match=index.name):
            ddim.load(tmp_path, "cpu")


def test_averaged_weights_beside_those_as_trained(tmp_path, caplog):
    from diffusers.training_utils import EMAModel

    made = pipeline()
    made.unet.save_pretrained(tmp_path / "unet")
    average = EMAModel(made.unet.parameters(), model_cls=diffusers.UNet2DModel, model_config=made.unet.config)
    average.shadow_params = [p * 0.5 for p in average.shadow_params]
    average.save_pretrained(tmp_path / "unet_ema")
    trained = made.unet.conv_in.weight
    model = ddim.load(tmp_path, "cpu")
    assert torch.equal(model.network.conv_in.weight, trained * 0.5)
    assert model.facts.averaged is True
    assert "took unet_ema, the average of training; --raw takes unet" in caplog.records[0].getMessage()
    raw = ddim.load(tmp_path, "cpu", raw=True)
    assert torch.equal(raw.network.conv_in.weight, trained)
    assert raw.facts.averaged is False
    assert torch.equal(ddim.load(tmp_path / "unet_ema", "cpu").network.conv_in.weight, trained * 0.5)


def test_weights_and_their_steps_are_read_as_one(tmp_path):
    """While training writes: the step that is told is the step of the weights, at every read."""
    from dataclasses import replace

    def write(step: int) -> None:
        model = tiny_model()
        model.network.conv_in.bias.fill_(step)
        ddim.save(replace(model, facts=ddim.Facts(steps=step, images=64 * step, preset="digits")), tmp_path)

    write(0)
    stop, failures = Event(), []

    def train() -> None:
        step = 0
        while not stop.is_set():
            step += 1
            try:
                write(step)
            except Exception as error:
                failures.append(error)
                return

    thread = Thread(target=train)
    thread.start()
    try:
        seen = set()
        for _ in range(20):
            model = ddim.load(tmp_path, "cpu")
            steps = int(model.network.conv_in.bias[0])
            assert (model.facts.steps, model.facts.images) == (steps, 64 * steps)
            seen.add(steps)
    finally:
        stop.set()
        thread.join()
    assert not failures
    assert len(seen) > 5
    assert ddim.load(tmp_path, "cpu").facts.preset == "digits"


def test_the_index_may_be_ahead_of_the_weights(tmp_path):
    """A kill between the two files: what is told belongs to the weights."""
    from dataclasses import replace

    ddim.save(replace(tiny_model(), facts=ddim.Facts(steps=100, images=6400)), tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["ddim"] |= {"steps": 200, "images": 12800}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    facts = ddim.load(tmp_path, "cpu").facts
    assert (facts.steps, facts.images) == (100, 6400)


def test_a_lucidrains_schedule_that_cannot_be(tmp_path):
    betas = 1 - schedule.linear(50)[1:] / schedule.linear(50)[:-1]
    content = lucid_checkpoint(randomise(Lucid()), randomise(Lucid(), 2), betas, "v")
    for change in (betas[:7], betas[None], -betas, betas * float("nan")):
        for state in (content["model"], content["ema"]):
            state |= {key: change for key in state if key.endswith("betas")}
        torch.save(content, tmp_path / "m.pt")
        with pytest.raises(InputError, match=r"m\.pt: .*(β|betas)"):
            ddim.load(tmp_path / "m.pt", "cpu", image_size=16)


def test_nothing_that_is_no_file_is_opened(tmp_path):
    import os

    os.mkfifo(tmp_path / "m.pt")
    with pytest.raises(InputError, match=r"m\.pt: not a"):
        ddim.load(tmp_path / "m.pt", "cpu")
    folder = ddim.save(tiny_model(), tmp_path / "m")
    for name in ("unet/config.json", "scheduler/scheduler_config.json", "model_index.json", WEIGHTS):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(InputError, match="not a file"):
            ddim.load(folder, "cpu")
        (folder / name).unlink()
        (folder / name).write_bytes(content)


def test_odd_keys_in_a_folder_get_a_line(tmp_path):
    folder = ddim.save(tiny_model(), tmp_path / "m")
    (folder / WEIGHTS).unlink()
    torch.save({7: torch.ones(1)}, (folder / WEIGHTS).with_suffix(".bin"))
    with pytest.raises(InputError, match=r"lacks conv_in\.weight"):
        ddim.load(folder, "cpu")


def test_a_list_of_yaml_that_holds_itself_gets_a_line(net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "ckpt.pth")
    (tmp_path / "config.yml").write_text("data:\n    image_size: &a [*a]\n")
    with pytest.raises(InputError, match=r"image_size must be a whole number; got \[\["):
        ddim.load(tmp_path, "cpu")
