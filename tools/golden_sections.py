"""What golden values are made of: each section is a function that computes a nested dict of tensors and numbers.

Everything is drawn from fixed seeds, in float32. Nothing here writes or compares: see golden.py.
"""

import hashlib
import json
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import ddim
from ddim import images
from ddim.diffusion import interpolation, schedule
from ddim.diffusion.latents import encoding, latents_of
from ddim.diffusion.sampling import generate
from ddim.diffusion.walk import last
from ddim.evaluation import features, metrics
from ddim.networks import acceleration
from ddim.networks.unet import UNet, UNetConfig
from ddim.system import machine
from ddim.training import loop, new_model, presets, settings, trainer

HOW = {"n": 4, "seed": 3, "batch_size": 4, "clip": False, "solver": "ddim"}  # whatever the defaults are


def digits_model() -> ddim.Model:
    return ddim.load("digits", "cpu")


def tiny_rgb_model() -> ddim.Model:
    """Random weights, drawn in the order of parameters(): a reordered module shows here first."""
    config = UNetConfig(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    )
    network = UNet(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return ddim.Model(network, schedule.linear(), (3, 8, 8), "eps")


def digit_images() -> Tensor:
    """All embedded digits, (1797, 1, 8, 8) uint8."""
    return images.load(images.find("digits", 8, 1))


def synthetic_images() -> Tensor:
    """(40, 3, 16, 16) uint8; 40 is no multiple of the batch, so that the order wraps round."""
    stream = np.random.Generator(np.random.Philox(key=[2020, 2502]))
    return torch.from_numpy(stream.integers(0, 256, (40, 3, 16, 16), dtype=np.uint8))


def raw(value: Tensor) -> bytes:
    """The bytes of a tensor in its own logical order, whatever its memory format."""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def weights_of(network: torch.nn.Module) -> dict:
    """One hash over sorted names and bytes, one over the bytes alone (blind to names), and all as one flat tensor."""
    weights = dict(sorted((name, value.detach()) for name, value in network.state_dict().items()))
    named, plain = hashlib.sha256(), hashlib.sha256()
    for name, value in weights.items():
        named.update(name.encode() + raw(value))
        plain.update(raw(value))
    flat = torch.cat([value.float().contiguous().flatten() for value in weights.values()])
    return {"tensors": len(weights), "named_sha256": named.hexdigest(), "bytes_sha256": plain.hexdigest(), "flat": flat}


COLOUR = presets.preset(
    **{"data": "synthetic", "size": 16, "channels": 3, "flip": True},
    **{"ch": 16, "mult": (1, 2), "attention": (8,), "layers": 1, "patch": 1, "groups": 8, "dropout": 0.1},
    **{"steps": 20, "batch_size": 16, "accumulate": 2, "lr": 2e-3, "warmup": 5, "decay": True, "ema": 0.999},
    **{"seed": 7, "precision": "fp32"},
)


def trained(chosen: settings.Settings, data: Tensor, steps: int = 20) -> dict:
    """The first steps of a run, as `ddim.train` sets it up."""
    chosen.check()
    torch.set_flush_denormal(True)
    accelerator = trainer.accelerate(chosen, "cpu")
    model = new_model.build(chosen).to(accelerator.device)
    initial = weights_of(model.network)
    state = loop.State.new(chosen.optimiser, model.network)
    losses = [loss.detach().clone() for loss in islice(loop.fit(chosen, state, model.abar, data, accelerator), steps)]
    return {
        "losses": torch.stack(losses),
        "losses_each": [loss.item() for loss in losses],
        "step": state.step,
        "initial": initial,
        "network": weights_of(state.network),
        "average": weights_of(state.average.module),
    }


def training() -> dict:
    return {
        "digits": trained(presets.PRESETS["digits"], digit_images()),
        "colour": trained(COLOUR, synthetic_images()),
    }


def samples_of(model: ddim.Model) -> dict:
    """Samples, and what they are before they are clamped to [−1, 1]: a random model's lie mostly outside."""
    found = {}
    for spacing in ("linear", "quadratic", "official-linear", "official-quadratic"):
        times = schedule.grid(model.abar, 10, spacing)
        for eta in (0, 0.5, 1, "hat"):
            name = f"eta={eta} {spacing} S=10"
            found[name] = ddim.sample(model, steps=10, eta=eta, spacing=spacing, **HOW)
            with torch.no_grad():
                found[f"{name} unclamped"] = last(generate(model, range(4), times, eta, 3, clip=False)).x
    for eta in (0, "hat"):
        found[f"eta={eta} linear S=10 clip"] = ddim.sample(model, steps=10, eta=eta, **HOW | {"clip": True})
    found["eta=0 times=1000,600,300,100,0"] = ddim.sample(model, times=[1000, 600, 300, 100, 0], **HOW)
    return found


def samples() -> dict:
    cifar10 = ddim.load("cifar10", "cpu")
    return {
        "digits": samples_of(digits_model()),
        "tiny_rgb": samples_of(tiny_rgb_model()),
        "cifar10": {"eta=0 linear S=5": ddim.sample(cifar10, steps=5, **HOW | {"n": 2})},
    }


def encodings() -> dict:
    model, x = digits_model(), images.to_float(digit_images()[:4])
    linear = ddim.encode(model, x, steps=20)
    quadratic = ddim.encode(model, x, steps=20, spacing="quadratic")
    path = schedule.grid(model.abar, 10)
    # On digits the fixed point does not settle, so those bits are of one kind of CPU; on the random model it does.
    tiny, y = tiny_rgb_model(), images.to_float(synthetic_images()[:2, :, :8, :8].contiguous())
    with torch.no_grad():
        settling, unsettled = last(encoding(tiny, y, path, "implicit")), last(encoding(model, x, path, "implicit"))
    implicit = latents_of(unsettled, x)
    pair = ddim.encode(model, x, steps=10, solver="exact")
    return {
        "implicit tiny_rgb S=10": latents_of(settling, y),
        "implicit tiny_rgb S=10 residual": settling.state,
        "pictures": x,
        "explicit linear S=20": linear,
        "explicit quadratic S=20": quadratic,
        "implicit S=10": implicit,
        "implicit S=10 residual": unsettled.state,
        "implicit S=10 by encode(solver=implicit)": ddim.encode(model, x, steps=10, solver="implicit"),
        "pair S=10 z": pair[0],
        "pair S=10 before": pair[1],
        "pair S=10 decoded": ddim.decode(model, pair, steps=10),
        "decoded linear S=20": ddim.decode(model, linear, steps=20),
        "decoded quadratic S=20": ddim.decode(model, quadratic, steps=20, spacing="quadratic"),
        "decoded implicit S=10": ddim.decode(model, implicit, steps=10),
        "slerp": ddim.slerp(linear[:1], linear[1:2], torch.linspace(0, 1, 5)),
        "slerp_grid": interpolation.slerp_grid(linear, 3, 3),
        "interpolate": ddim.interpolate(model, linear[:1], linear[1:2], frames=5, steps=10, clip=False),
        "interpolate_ddpm": ddim.interpolate_ddpm(model, x[:1], x[1:2], t=500, frames=5, steps=20, seed=3, clip=False),
    }


def fid() -> dict:
    network = features.find("digits-small", "cpu")
    made = images.to_uint8(ddim.sample(digits_model(), steps=10, **HOW | {"n": 64, "batch_size": 64}))
    real, fake = (metrics.statistics(network, some) for some in (digit_images()[:200], made))
    kid, deviation = metrics.kid(real, fake)
    precision, recall = metrics.precision_recall(real, fake)
    return {
        "made": made,
        "features_hash": network.hash,
        "real_mu": real.mu,
        "real_sigma": real.sigma,
        "fake_mu": fake.mu,
        "fake_sigma": fake.sigma,
        "fake_features": fake.features,
        "fid": metrics.fid(real, fake),
        "kid": kid,
        "kid_deviation": deviation,
        "precision": precision,
        "recall": recall,
    }


def saved(model: ddim.Model, root: Path) -> dict:
    """Save, load, save again, and save in half precision: the files' hashes, and what is inside."""
    from safetensors.torch import load_file

    from ddim.checkpoints.saving import INDEX, SCHEDULER, UNET, WEIGHTS

    once = ddim.save(model, root / "once")
    again = ddim.save(ddim.load(once, "cpu"), root / "again")
    half = ddim.save(model, root / "half", torch.float16)
    index = json.loads((once / INDEX).read_text())
    index["ddim"] = {k: v for k, v in index["ddim"].items() if k not in ("version", "source")}  # not of the numbers
    return {
        "weights_file_sha256": of_file(once / WEIGHTS),
        "weights_file_again_sha256": of_file(again / WEIGHTS),
        "weights_file_half_sha256": of_file(half / WEIGHTS),
        "weights_inside_sha256": inside(load_file(once / WEIGHTS)),
        "weights_inside_again_sha256": inside(load_file(again / WEIGHTS)),
        "names_sha256": hashlib.sha256("\n".join(sorted(load_file(once / WEIGHTS))).encode()).hexdigest(),
        "unet_config_sha256": of_file(once / UNET),
        "scheduler_config_sha256": of_file(once / SCHEDULER),
        "model_index": json.dumps(index, sort_keys=True),
        "files": sorted(str(path.relative_to(once)) for path in once.rglob("*") if path.is_file()),
        "fingerprint": model.fingerprint,
        "fingerprint_again": ddim.load(once, "cpu").fingerprint,
        "fingerprint_half": ddim.load(half, "cpu").fingerprint,
        "abar": model.abar,
        "weights": weights_of(model.network),
    }


def inside(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + raw(value))
    return digest.hexdigest()


def of_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def folder() -> dict:
    with tempfile.TemporaryDirectory() as root:
        return {
            "digits": saved(digits_model(), Path(root) / "digits"),
            "tiny_rgb": saved(tiny_rgb_model(), Path(root) / "tiny"),
        }


def prepared() -> dict:
    machine.fast_products()
    by_hand = acceleration.quantised(digits_model())  # in float32 and without VNNI, which `prepare` refuses
    acceleration.packed(by_hand.network)
    names = ("fp32", "bf16", "int8") if machine.native_int8() else ("fp32", "bf16")
    found = {name: ddim.sample(ddim.prepare(digits_model(), name), steps=10, **HOW) for name in names}
    return {**found, "int8 by hand, fp32 sums": ddim.sample(by_hand, steps=10, **HOW)}


SECTIONS = {f.__name__: f for f in (training, samples, encodings, fid, folder, prepared)}
