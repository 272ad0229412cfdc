"""Single files of weights from other code: recognised by their keys, completed by options, made into models."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ddim.checkpoints import keys as convert
from ddim.checkpoints.diffusers_config import check, from_rounded
from ddim.checkpoints.layouts.official import settings
from ddim.checkpoints.options import Options
from ddim.checkpoints.weights import assign, is_state, read
from ddim.diffusion import schedule
from ddim.diffusion.facts import Facts
from ddim.diffusion.model import Model
from ddim.errors import InputError, choose
from ddim.networks import lucidrains_unet as lucidrains
from ddim.networks.lucidrains_unet import LucidConfig, LucidUNet
from ddim.networks.unet import UNet, UNetConfig

log = logging.getLogger("ddim")


PUBLISHED_SIZES = {  # width multipliers -> image size, of the official, improved- and guided-diffusion models
    (1, 2, 2, 2): 32,
    (1, 2, 2, 2, 4): 64,
    (1, 2, 3, 4): 64,
    (1, 1, 2, 3, 4): 128,
    (1, 1, 2, 2, 4, 4): 256,
}


def load_file(path: Path, options: Options) -> Model:
    """The model in one file of weights. Raises InputError, naming the first keys that differ from the layout."""
    content = read(path)
    options = replace(options, **{k: v for k, v in settings(path).items() if getattr(options, k) is None})
    averaged, state = unwrap(content, options.raw, path)
    layout = next((name for name, (mark, _) in LAYOUTS.items() if {mark, f"model.{mark}"} & state.keys()), None)
    if layout is None:
        told = ", ".join(list(state)[:3])
        hint = "name the model's folder" if "conv_in.weight" in state else "of no layout that is known here"
        raise InputError(f"{path}: {hint}; its first keys are {told}")
    try:
        model = LAYOUTS[layout][1](state, options, path)
    except (KeyError, IndexError) as error:
        raise InputError(f"{path}: looks like {layout}, but lacks {error.args[0]}") from None
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    which = {None: "", True: ", averaged weights", False: ", weights as trained"}[averaged]
    return replace(model, facts=replace(model.facts, source=str(path), layout=layout + which, averaged=averaged))


def unwrap(content, raw: bool, path: Path) -> tuple[bool | None, dict[str, Tensor]]:
    """The state dict in what a file holds, and whether it is the averaged one (None where the file does not say)."""
    if isinstance(content, list) and len(content) in (4, 5) and is_state(content[0]):
        averaged = len(content) == 5 and is_state(content[4]) and not raw
        state = content[4 if averaged else 0]
        # `logvar` belongs to an unused kind of model of the official code.
        return averaged, {k.removeprefix("module."): v for k, v in state.items() if not k.endswith("logvar")}
    if isinstance(content, dict) and is_state(content.get("model")):
        averaged = isinstance(content.get("ema"), dict) and not raw
        state = content["ema"] if averaged else content["model"]
        start = "ema_model." if averaged else ""
        return averaged, {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
    if is_state(content):
        if raw:
            raise InputError(f"{path}: holds one set of weights; leave out --raw")
        return None, content
    raise InputError(f"{path}: holds no state dict, nor a checkpoint of a layout that is known here")


def abar_of(o: Options, for_1000: bool) -> tuple[Tensor, dict]:
    """The schedule that options name, and what was assumed. `for_1000`: the ends of β are those of a T of 1000."""
    T, name = 1000 if o.T is None else o.T, o.schedule or "linear"
    if T < 1:
        raise InputError(f"--T must be at least 1; got {T}")
    scale = 1000 / T if for_1000 else 1.0
    first, last = (8.5e-4, 0.012) if name == "scaled-linear" else (1e-4 * scale, min(0.02 * scale, 0.999))
    ends = {"beta_1": first if o.beta_1 is None else o.beta_1, "beta_T": last if o.beta_T is None else o.beta_T}
    if not 0 < ends["beta_1"] <= ends["beta_T"] < 1:
        raise InputError(f"--beta-1 and --beta-T must rise between 0 and 1; got {ends['beta_1']}, {ends['beta_T']}")
    abar = choose("schedule", name, schedule.SCHEDULES)(T, **({} if name == "cosine" else ends))
    return abar, {k: v for k, v in {"T": T, "schedule": name}.items() if getattr(o, k) is None}


def size_of(widths: tuple[int, ...], o: Options, path: Path) -> tuple[int, dict]:
    """The image size: given, else the published one of these multipliers; and what was assumed."""
    multipliers = tuple(width // widths[0] for width in widths)
    size = o.image_size or PUBLISHED_SIZES.get(multipliers)
    if size is None or size < 1:
        raise InputError(f"{path}: the size of its images cannot be told from the weights; give --image-size")
    if size % 2 ** (len(widths) - 1):
        raise InputError(f"--image-size {size} cannot be halved {len(widths) - 1} times, as this network does")
    return size, {} if o.image_size else {"image size": size}


def model_of(network: UNet | LucidUNet, abar: Tensor, predicts: str, assumed: dict) -> Model:
    """A model of images as the network's configuration has them, with a line of what was assumed."""
    c = network.config
    height, width = c.sample_size if isinstance(c.sample_size, tuple) else (c.sample_size, c.sample_size)
    if c.out_channels not in (c.in_channels, 2 * c.in_channels):
        raise InputError(f"{c.in_channels} channels in, {c.out_channels} out: conditioning on a image is not supported")
    if extra := c.out_channels - c.in_channels:
        log.warning("the network also learned its variance: %d of its %d channels are dropped", extra, c.out_channels)
    return Model(network, abar, (c.in_channels, height, width), predicts, Facts(assumed=assumed))


def official(state: dict[str, Tensor], o: Options, path: Path) -> Model:
    """The official DDIM code, and the DDPM weights converted from TensorFlow that it downloads."""
    told = convert.official_config(state)
    size, assumed = size_of(told["block_out_channels"], o, path)
    dropout = (0.1 if size < 256 else 0.0) if o.dropout is None else o.dropout
    assumed |= {"dropout": dropout} if o.dropout is None else {}
    c = UNetConfig(sample_size=size, dropout=dropout, **told)
    check(c)
    network = convert.build(c, state, convert.official_name, path)
    abar, more = abar_of(o, for_1000=False)
    return model_of(network, abar, o.objective or "eps", assumed | more)


def improved(state: dict[str, Tensor], o: Options, path: Path) -> Model:
    """improved-diffusion and guided-diffusion, without classes."""
    told = convert.improved_config(state)
    size, assumed = size_of(told["block_out_channels"], o, path)
    abar, more = abar_of(o, for_1000=True)
    fields = {"sample_size": size, "dropout": o.dropout or 0.0, **told}
    if o.rescale_timesteps and len(abar) != 1001:
        fields["time_scale"] = 1000 / (len(abar) - 1)
    heads = o.num_heads or 4
    if not (o.num_heads or o.num_head_channels):
        assumed["heads"] = heads
    c = convert.with_attention(fields, heads, o.num_head_channels)
    check(c)
    split = convert.split_qkv(c, by_kind=o.new_attention_order)
    network = convert.build(c, state, convert.improved_name, path, split)
    return model_of(network, abar, o.objective or "eps", assumed | more)


def lucid(state: dict[str, Tensor], o: Options, path: Path) -> Model:
    """lucidrains: the network under `model.`, with its schedule and the weights of its loss beside it."""
    inside = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")} or state
    told = lucidrains.config_of(inside)
    if o.image_size is None:
        raise InputError(f"{path}: the size of its images cannot be told from the weights; give --image-size")
    size, _ = size_of(told["block_out_channels"], o, path)
    with torch.device("meta"):
        network = LucidUNet(LucidConfig(sample_size=size, **told))
    assign(network, inside, path)
    if "betas" not in state:
        abar, assumed = abar_of(o, for_1000=True)
    else:
        # Both are kept as float32: ᾱ is exact where it is small, the product of 1 − β where it is close to 1.
        abar, assumed = schedule.from_betas(state["betas"]), {}
        stored = state["alphas_cumprod"].double()  # (T,)
        abar[1:] = torch.where(stored < 0.5, stored, abar[1:])
        abar = from_rounded(1 - abar[1:] / abar[:-1])
    objective = o.objective or objective_of(state.get("loss_weight"), abar)
    if objective is None:
        objective, assumed["objective"] = "v", "v"
    return model_of(network, abar, objective, assumed)


def objective_of(weight: Tensor | None, abar: Tensor) -> str | None:
    """The objective that lucidrains' weights of the loss (T,) belong to, with or without its cap of 5; else None."""
    snr = abar[1:] / (1 - abar[1:])  # (T,)
    for capped in (snr, snr.clamp(max=5)):
        for name, expected in {"eps": capped / snr, "x0": capped, "v": capped / (snr + 1)}.items():
            if weight is not None and torch.allclose(weight.double(), expected, rtol=1e-3, atol=1e-6):
                return name
    return None


LAYOUTS: dict[str, tuple[str, Callable[[dict[str, Tensor], Options, Path], Model]]] = {
    "the official DDIM code": ("temb.dense.0.weight", official),
    "improved-diffusion or guided-diffusion": ("input_blocks.0.0.weight", improved),
    "lucidrains' denoising-diffusion-pytorch": ("init_conv.weight", lucid),
}
