"""Models of every layout that `load` opens, with damage to their bytes, their JSON and YAML, and their state dicts."""

import contextlib
import json
import logging
import pickle
import random
import shutil
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save_file
from support.layouts import Improved, Lucid, Official, lucid_checkpoint, randomise
from support.models import tiny_network

import ddim
from ddim.checkpoints.layouts import official as official_layout
from ddim.diffusion import schedule
from ddim.diffusion.model import Model
from ddim.networks.blocks import ExtendedConfig
from ddim.networks.unet import UNet
from fuzz import damage
from fuzz.harness import Arguments, Kind

SIZE = ["--image-size", "16"]
WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


def prepare(templates: Path) -> None:
    """A whole model of each layout."""
    warnings.simplefilter("ignore")
    logging.disable()
    ddim.save(ddim.load("digits", "cpu"), templates / "native")
    patched = UNet(ExtendedConfig(**vars(tiny_network(size=16).config), patch=2))
    ddim.save(Model(randomise(patched), schedule.linear(), (1, 16, 16)), templates / "patched")
    of_diffusers(templates)
    official = randomise(Official(mult=(1, 2), attention=(False, True), layers=1), 1)
    trained = {f"module.{key}": value for key, value in official.state_dict().items()}
    ours = ddim.load(saved(official.state_dict(), templates / "official.ckpt"), "cpu", image_size=16)
    official_layout.save(ours, templates / "official")
    optimiser = torch.optim.Adam(official.parameters()).state_dict()
    saved([trained, optimiser, 3, 100, official.state_dict()], templates / "training.pth")
    torch.save(official.state_dict(), templates / "legacy.pt", _use_new_zipfile_serialization=False)
    save_file(official.state_dict(), templates / "official.safetensors")
    saved({"state_dict": {f"model.{k}": v for k, v in official.state_dict().items()}}, templates / "lightning.ckpt")
    for learned in (3, 6):
        improved = randomise(Improved(mult=(1, 2), layers=1, attention=(False, True), out=learned), 1)
        saved(improved.state_dict(), templates / f"improved{learned}.pt")
    lucid = [randomise(Lucid(mult=(1, 2)), seed) for seed in (1, 2)]
    betas = 1 - schedule.cosine(100)[1:] / schedule.cosine(100)[:-1]
    saved(lucid_checkpoint(*lucid, betas, "v"), templates / "lucid.pt")
    saved(lucid[0].state_dict(), templates / "lucid-bare.pt")


def of_diffusers(templates: Path) -> None:
    import diffusers
    from diffusers.training_utils import EMAModel

    unet = randomise(diffusers.UNet2DModel(**vars(tiny_network().config)), 0)
    for kind in (diffusers.DDPMScheduler, diffusers.PNDMScheduler, diffusers.UniPCMultistepScheduler):
        diffusers.DDPMPipeline(unet, kind()).save_pretrained(templates / kind.__name__)
    plain = templates / "DDPMScheduler"
    for name, how in {"bin": {"safe_serialization": False}, "fp16": {"variant": "fp16"}}.items():
        shutil.copytree(plain, templates / name)
        (templates / name / "unet/diffusion_pytorch_model.safetensors").unlink()
        unet.save_pretrained(templates / name / "unet", **how)
    shutil.copytree(templates / "bin", templates / "shards")
    (templates / "shards/unet/diffusion_pytorch_model.bin").unlink()
    unet.save_pretrained(templates / "shards/unet", max_shard_size="10KB")
    shutil.copytree(plain, templates / "averaged")
    average = EMAModel(unet.parameters(), model_cls=diffusers.UNet2DModel, model_config=unet.config)
    average.save_pretrained(templates / "averaged/unet_ema")


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def make(rng: random.Random, templates: Path) -> list[Arguments]:
    """A damaged copy of one layout, and the commands that open it."""
    warnings.simplefilter("ignore")
    source = rng.choice(sorted(templates.iterdir()))
    model = Path("model").with_suffix(source.suffix)
    shutil.copytree(source, model) if source.is_dir() else shutil.copy(source, model)
    files = sorted(path for path in model.rglob("*") if path.is_file()) or [model]
    spoil(rng.choice(files), rng, files)
    with contextlib.suppress(Exception):  # what is damaged already may not open to be damaged again
        if rng.random() < 0.25:
            spoil(rng.choice(files), rng, files)
    bare = model.is_file() or source.name == "official"
    options = odd_options(rng) if rng.random() < 0.2 else SIZE if model.is_file() else []
    if bare or rng.random() < 0.3:
        convert = ["convert", str(model), "made-model", *options]
        return [["info", str(model), *options], convert, sample("made-model", rng)]
    return [["info", str(model), *options], sample(str(model), rng)]


def sample(model: str, rng: random.Random) -> Arguments:
    how = rng.choice(
        [[], ["--eta", "1"], ["--solver", "unipc"], ["--solver", "heun"], ["--clip"], ["--spacing", "quadratic"]]
    )
    return ["sample", model, "--n", "2", "--steps", "2", "--format", "npz", "--out", "made", *how]


def odd_options(rng: random.Random) -> Arguments:
    words = {
        "--image-size": ["16", "8", "7", "1", "0", "4096", "x"],
        "--T": ["1", "2", "1000", "4000", "0", "100001"],
        "--schedule": ["linear", "cosine", "scaled-linear"],
        "--beta-1": ["0", "1e-4", "0.9", "1e-300"],
        "--beta-T": ["0", "0.02", "0.999", "1e-9"],
        "--objective": ["eps", "x0", "v"],
        "--num-heads": ["1", "3", "4", "1024"],
        "--num-head-channels": ["1", "3", "64"],
        "--dropout": ["0", "0.5"],
    }
    chosen = rng.sample(sorted(words), rng.choice([1, 2, 3]))
    flags = [flag for flag in ("--raw", "--new-attention-order", "--no-rescale-timesteps") if rng.random() < 0.2]
    return [word for name in chosen for word in (name, rng.choice(words[name]))] + flags


def spoil(path: Path, rng: random.Random, files: list[Path]) -> None:
    """Damage one file of a model."""
    if not path.is_file():
        return
    how = rng.random()
    if how < 0.06:
        return damage.place_of(path, rng)
    if how < 0.09:
        return path.unlink()
    if how < 0.12:
        return (
            path.write_bytes(rng.choice(files).read_bytes())
            if path.is_file() and all(map(Path.is_file, files))
            else None
        )
    if path.suffix in WEIGHTS and how < 0.75:
        return state_dict(path, rng)
    if path.suffix == ".safetensors" and how < 0.85:
        return header(path, rng)
    if path.suffix == ".json" and how < 0.85:
        with_odd = damage.json_of(json.loads(path.read_text()), rng) if readable(path) else {}
        return path.write_text(json.dumps(with_odd))
    if path.suffix == ".yml" and how < 0.75:
        return yaml_value(path, rng)
    if path.suffix in (".json", ".yml"):
        return path.write_bytes(damage.text_of(path.read_text(errors="replace"), rng))
    if how < 0.9 and path.suffix in WEIGHTS:
        return rewritten(path, rng)
    path.write_bytes(damage.bytes_of(path.read_bytes(), rng))


def readable(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True


def yaml_value(path: Path, rng: random.Random) -> None:
    lines = path.read_text().splitlines()
    at = rng.randrange(len(lines))
    name = lines[at].partition(":")[0]
    odd = ["", "null", "-1", "0", "1e400", ".nan", ".inf", "yes", "[]", "{}", "[1, 2]", "x", "1e-4", "2024-01-01",
           "0x10", "&a [*a]", "!!python/object:os.system", "!!python/tuple [1]", "'", "|", "1_000",
           "99999999999999999999", "3.5", "!!binary x"]  # fmt: skip
    lines[at] = f"{name}: {rng.choice(odd)}"
    path.write_text("\n".join(lines))


def header(path: Path, rng: random.Random) -> None:
    """Another head of a safetensors file, before the same numbers."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    if size > len(raw):
        return
    try:
        told = damage.json_of(json.loads(raw[8 : 8 + size]), rng)
    except ValueError:
        return
    text = json.dumps(told).encode()
    path.write_bytes(struct.pack("<Q", rng.choice([len(text)] * 9 + [2**63])) + text + raw[8 + size :])


def rewritten(path: Path, rng: random.Random) -> None:
    """The same content in another form, or code where there should be numbers."""
    content = contents(path)
    match rng.choice(["pickle", "evil", "legacy", "zip", "pickled object", "name"]):
        case "pickle":
            path.write_bytes(pickle.dumps({"a": [1, 2]}))
        case "evil":
            path.write_bytes(b"cos\nsystem\n(S'touch evil'\ntR.")
        case "legacy" if path.suffix != ".safetensors":
            torch.save(content, path, _use_new_zipfile_serialization=False)
        case "pickled object":
            torch.save({"state_dict": content, "object": Path("x"), "function": print}, path)
        case "name":
            torch.save(content, path)  # perhaps by the name of a safetensors file
        case _ if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as old:
                entries = [(entry.filename, old.read(entry)) for entry in old.infolist()]
            entries[rng.randrange(len(entries))] = ("other", b"")
            with zipfile.ZipFile(path, "w", rng.choice([0, 8, 12, 14])) as new:
                for name, data in entries:
                    new.writestr(name, data)


def contents(path: Path) -> Any:
    try:
        return load(path.read_bytes()) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except Exception:  # it is damaged already
        return {"a": torch.ones(1)}


def state_dict(path: Path, rng: random.Random) -> None:
    """Change what a file of weights holds: a key, a shape, a type, its numbers, or what it is wrapped in."""
    content = contents(path)
    state = inner(content, rng)
    if state:
        spoil_state(state, rng)
    if path.suffix == ".safetensors":
        plain = {str(k): v.contiguous().clone() for k, v in state.items() if storable(v)}
        return save_file(plain, path)
    wrapped = rng.choice([{"state_dict": content}, {"ema": content}, {"model": content, "ema": {}}, [content],
                         (content, content), {"model": {"ema": content}}, {"ema": {"shadow_params": [content]}},
                         {0: content}, None])  # fmt: skip
    torch.save(wrapped if rng.random() < 0.15 else content, path)


def storable(value: Any) -> bool:
    """Whether a safetensors file can hold a value."""
    plain = isinstance(value, torch.Tensor) and value.layout is torch.strided
    return plain and not value.is_quantized and not value.is_meta and value.numel() < 10**7


def inner(content: Any, rng: random.Random) -> dict:
    """One of the state dicts in what a file holds."""
    if isinstance(content, dict) and any(isinstance(value, torch.Tensor) for value in content.values()):
        return content
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else []
    found = [state for part in parts if isinstance(part, dict) and (state := inner(part, rng))]
    return rng.choice(found) if found else {}


def spoil_state(state: dict, rng: random.Random) -> None:
    for key in rng.sample(sorted(state, key=str), min(len(state), rng.choice([1, 1, 2, 5]))):
        value = state[key]
        match rng.choice(["key", "numbers", "numbers", "shape", "type", "object"]):
            case "key":
                spoil_key(state, key, rng)
            case "numbers" if storable(value) and value.is_floating_point() and value.numel():
                value = value.clone()
                odd = [float("nan"), float("inf"), -float("inf"), 1e38, -3e38, 1e20, 1e-40, 0.0, 1e4]
                some = value.view(-1) if rng.random() < 0.3 else value.view(-1)[rng.randrange(value.numel()) :][:1]
                some.fill_(rng.choice(odd))
                state[key] = value
            case "shape" if storable(value):
                state[key] = rng.choice(SHAPES)(value)
            case "type" if storable(value):
                state[key] = rng.choice(TYPES)(value)
            case "object":
                state[key] = rng.choice([None, 3, "x", [1.0], {}, {"a": torch.ones(1)}, torch.Size([1]), True])


def spoil_key(state: dict, key: Any, rng: random.Random) -> None:
    value = state.pop(key)
    for name in rng.choice([[], [7], [f"{key}x"], ["a\nb"], [f"module.{key}"], [f"{key}.weight"], [None],
                           ["β" * 5000], [key, "extra"], ["temb.dense.0.weight"], ["input_blocks.0.0.weight", key],
                           ["init_conv.weight", key], [(1, 2)]]):  # fmt: skip
        state[name] = value


SHAPES = [
    lambda v: v.flatten(),
    lambda v: v.T if v.dim() == 2 else v[None],
    lambda v: torch.cat([v, v]) if v.dim() else v[None],
    lambda v: v[:0] if v.dim() else v,
    lambda v: torch.zeros(()),
    lambda v: torch.zeros(1).expand(10**5, 10**5),
    lambda v: torch.zeros(1).expand(v.shape),
    lambda v: torch.zeros(0, 10**6, 10**6),
    lambda v: v[: max(len(v) // 3, 1)] if v.dim() else v,
]
TYPES = [
    lambda v: v.half(),
    lambda v: v.bfloat16(),
    lambda v: v.double(),
    lambda v: v.to(torch.float8_e4m3fn),
    lambda v: v.to(torch.int64),
    lambda v: v > 0,
    lambda v: v.to(torch.complex64),
    lambda v: v.to_sparse(),
    lambda v: torch.quantize_per_tensor(v.float(), 0.1, 0, torch.qint8),
    lambda v: v.to("meta"),
    lambda v: torch.nn.Parameter(v.float()),
]

KIND = Kind("checkpoints", 2000, make, prepare)
