"""The networks of the contests: one set of random weights for all, and one question to all."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace


def options(parser: ArgumentParser) -> None:
    """What the contests on the paper's CIFAR-10 network have in common."""
    parser.add_argument("--official", type=checkout, help="a checkout of the official code")
    parser.add_argument("--ch", type=int, help="width of the network, by default the preset's: 128 for the paper's")
    parser.add_argument("--size", type=int, default=32, help="height and width of an image (32)")


def checkout(text: str) -> Path:
    if not (Path(text) / "models" / "diffusion.py").is_file():
        raise ArgumentTypeError(f"{text}: no checkout of the official code")
    return Path(text)


def preset(o: Namespace, name: str = ""):
    """The settings of a preset's network without dropout, by default the one of `o`, or the paper's; of another width
    or size where `o` says so."""
    from ddim.training.presets import PRESETS

    changes = {name: value for name in ("ch", "size") if (value := getattr(o, name, None))}
    return PRESETS[name or getattr(o, "preset", "cifar10")].changed(dropout=0.0, **changes)


def build(p):
    """A model whose every weight is random: an untrained network predicts 0, which some arithmetic likes."""
    import torch

    from ddim.training.new_model import build

    model = build(p)
    torch.manual_seed(0)
    for parameter in model.network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    model.network.eval().requires_grad_(False)
    return model


def as_sampled(model, dtype: str, compile: bool = False):
    """The model as our command line samples it."""
    from ddim import prepare

    return prepare(model, {"float32": "fp32", "bfloat16": "bf16"}.get(dtype, dtype), compile)


def share(o: Namespace) -> Callable[[Path], None]:
    """Writes the weights where every contender finds them: as a model folder, and as the official code's."""

    def write(folder: Path) -> None:
        import ddim
        from ddim.checkpoints.layouts import official

        model = build(preset(o))
        ddim.save(model, folder)
        if model.network.config.patch == 1:  # the official code has no patches
            official.save(model, folder)

    return write


def official(o: Namespace):
    """The official network with the weights, its configuration, and β (T,): as its runner makes them."""
    import torch
    import yaml

    sys.path.insert(0, str(o.official))
    from models.diffusion import Model

    told = yaml.safe_load((o.folder / "config.yml").read_text())
    config = SimpleNamespace(**{part: SimpleNamespace(**fields) for part, fields in told.items()})
    network = Model(config)
    network.load_state_dict(torch.load(o.folder / "ckpt.pth", weights_only=True)[-1])
    d = config.diffusion
    betas = torch.linspace(d.beta_start, d.beta_end, d.num_diffusion_timesteps, dtype=torch.float64).float()
    return network.to(o.device), config, betas.to(o.device)


def answer(network: Callable, o: Namespace, batch: int, dtype: str = "float32") -> list[float]:
    """A network's output for fixed images at times of all kinds; `network` is called (x, index).

    A whole batch, since an allocator that has seen another size holds other memory; the first four of its images.
    """
    import torch

    x = torch.randn(batch, 3, o.size, o.size, generator=torch.Generator().manual_seed(1))  # (N, 3, H, W)
    index = torch.arange(batch, device=o.device) * 333 % 1000  # 0, 333, 666, 999, 332, …
    with torch.no_grad():
        out = network(x.to(o.device, getattr(torch, dtype)), index)
    return out[:4].float().flatten().tolist()
