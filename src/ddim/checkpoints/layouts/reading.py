"""Single files of weights from other code: recognised by their keys, completed by options, made into models."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ddim.checkpoints import keys
from ddim.checkpoints.diffusers_config import check, lucid_of
from ddim.checkpoints.layouts.official import settings
from ddim.checkpoints.options import Options
from ddim.checkpoints.scheduler_config import MOST, from_rounded
from ddim.checkpoints.states import State, below, unwrap
from ddim.checkpoints.weights import assign, read
from ddim.diffusion import schedule
from ddim.diffusion.facts import Facts
from ddim.diffusion.model import Model
from ddim.errors import InputError, choose
from ddim.networks.lucidrains_unet import LucidUNet, config_of
from ddim.networks.unet import UNet, UNetConfig

PUBLISHED_SIZES = {  # width multipliers -> image size, of the official, improved- and guided-diffusion models
    (1, 2, 2, 2): 32,
    (1, 2, 2, 2, 4): 64,
    (1, 2, 3, 4): 64,
    (1, 1, 2, 3, 4): 128,
    (1, 1, 2, 2, 4, 4): 256,
}
OURS = "time_embedding.linear_1.weight"  # in a file of a diffusers folder


def load_file(path: Path, options: Options) -> Model:
    """The model in one file of weights. Raises InputError, naming the first keys that differ from the layout."""
    content = read(path)
    options = replace(options, **{k: v for k, v in settings(path).items() if getattr(options, k) is None})
    averaged, state = unwrap(content, options.raw, path)
    if odd := [key for key in state if not isinstance(key, str)]:
        raise InputError(f"{path}: its key {str(odd[0])[:80]} is no name of a parameter")
    layout = next((name for name, (mark, _) in LAYOUTS.items() if _has(state, mark)), None)
    if layout is None:
        hint = "name the model's folder" if _has(state, OURS) or "conv_in.weight" in state else ""
        first = ", ".join(str(key)[:80] for key in list(state)[:3])
        raise InputError(f"{path}: {hint or 'of no layout that is known here'}; its first keys are {first}")
    mark, make = LAYOUTS[layout]
    try:
        model = make(state if make is lucid else below(state, mark), options, path)
    except (KeyError, IndexError, AttributeError, TypeError, ZeroDivisionError) as error:
        what = f"lacks {error.args[0]}" if isinstance(error, KeyError) else f"is no such network ({error})"
        raise InputError(f"{path}: looks like {layout}, but {what}") from None
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    which = {None: "", True: ", averaged weights", False: ", weights as trained"}[averaged]
    return replace(model, facts=replace(model.facts, source=str(path), layout=layout + which, averaged=averaged))


def _has(state: State, mark: str) -> bool:
    return any(key == mark or str(key).endswith(f".{mark}") for key in state)


def abar_of(o: Options, for_1000: bool) -> tuple[Tensor, dict]:
    """The schedule that options name, and what was assumed. `for_1000`: the ends of β are those of a T of 1000."""
    T, name = 1000 if o.T is None else o.T, o.schedule or "linear"
    if not 1 <= T <= MOST:
        raise InputError(f"--T must be from 1 to {MOST}; got {T}")
    scale = 1000 / T if for_1000 else 1.0
    first, last = (8.5e-4, 0.012) if name == "scaled-linear" else (min(1e-4 * scale, 0.999), min(0.02 * scale, 0.999))
    ends = {"beta_1": first if o.beta_1 is None else o.beta_1, "beta_T": last if o.beta_T is None else o.beta_T}
    if not 0 < ends["beta_1"] <= ends["beta_T"] < 1:
        raise InputError(f"--beta-1 and --beta-T must rise between 0 and 1; got {ends['beta_1']}, {ends['beta_T']}")
    abar = choose("schedule", name, schedule.SCHEDULES)(T, **({} if name == "cosine" else ends))
    if abar[-1] < 1e-30:
        raise InputError(f"--T {T}, --beta-1 and --beta-T leave no signal at the last level; make β smaller")
    return abar, {k: v for k, v in {"T": T, "schedule": name}.items() if getattr(o, k) is None}


def size_of(widths: tuple[int, ...], o: Options, path: Path) -> tuple[int, dict]:
    """The image size: given, else the published one of these multipliers; and what was assumed."""
    multipliers = tuple(width // widths[0] for width in widths)
    size = o.image_size or PUBLISHED_SIZES.get(multipliers)
    if size is None or size < 1:
        raise InputError(f"{path}: the size of its images cannot be read from the weights; give --image-size")
    if size % 2 ** (len(widths) - 1):
        raise InputError(f"--image-size {size} cannot be halved {len(widths) - 1} times, as this network does")
    return size, {} if o.image_size else {"image size": size}


def model_of(network: UNet | LucidUNet, abar: Tensor, predicts: str, assumed: dict) -> Model:
    """A model of images as the network's configuration has them."""
    c = network.config
    height, width = c.sample_size if isinstance(c.sample_size, tuple) else (c.sample_size, c.sample_size)
    return Model(network, abar, (c.in_channels, height, width), predicts, Facts(assumed=assumed))


def official(state: State, o: Options, path: Path) -> Model:
    """The model of a state dict; what it does not say by options. Raises InputError, or a KeyError of what it lacks."""
    found = keys.official_config(state)
    size, assumed = size_of(found["block_out_channels"], o, path)
    dropout = (0.1 if size < 256 else 0.0) if o.dropout is None else o.dropout
    assumed |= {"dropout": dropout} if o.dropout is None else {}
    c = UNetConfig(sample_size=size, dropout=dropout, **found)
    check(c)
    network = keys.build(c, state, keys.official_name, path)
    abar, more = abar_of(o, for_1000=False)
    return model_of(network, abar, o.objective or "eps", assumed | more)


def improved(state: State, o: Options, path: Path) -> Model:
    """The model of a state dict; what it does not say by options. Raises InputError, or a KeyError of what it lacks."""
    found = keys.improved_config(state)
    size, assumed = size_of(found["block_out_channels"], o, path)
    abar, more = abar_of(o, for_1000=True)
    fields = {"sample_size": size, "dropout": o.dropout or 0.0, **found}
    if o.rescale_timesteps and len(abar) != 1001:
        fields["time_scale"] = 1000 / (len(abar) - 1)
    heads = o.num_heads or 4
    if not (o.num_heads or o.num_head_channels):
        assumed["heads"] = heads
    c = keys.with_attention(fields, heads, o.num_head_channels)
    check(c)
    split = keys.split_qkv(c, by_kind=o.new_attention_order)
    network = keys.build(c, state, keys.improved_name, path, split)
    return model_of(network, abar, o.objective or "eps", assumed | more)


def lucid(state: State, o: Options, path: Path) -> Model:
    """The model of a state dict; what it does not say by options. Raises InputError, or a KeyError of what it lacks."""
    inside = below(state, "init_conv.weight")
    found = config_of(inside)
    if o.image_size is None:
        raise InputError(f"{path}: the size of its images cannot be read from the weights; give --image-size")
    size, _ = size_of(found["block_out_channels"], o, path)
    c = lucid_of({"sample_size": size, **found})
    with torch.device("meta"):
        network = LucidUNet(c)
    assign(network, inside, path)
    if "betas" not in state:
        abar, assumed = abar_of(o, for_1000=True)
    else:
        abar, assumed = stored_schedule(state), {}
    objective = o.objective or objective_of(state.get("loss_weight"), abar)
    if objective is None:
        objective, assumed["objective"] = "v", "v"
    return model_of(network, abar, objective, assumed)


def stored_schedule(state: State) -> Tensor:
    """abar (T+1,) from `betas` and `alphas_cumprod`, which are kept as float32: ᾱ is exact where it is small, the
    product of 1 − β where it is close to 1. Raises InputError.
    """
    betas, product = state["betas"], state["alphas_cumprod"]
    if betas.dim() != 1 or product.shape != betas.shape or not len(betas):
        raise InputError(f"betas {tuple(betas.shape)} and alphas_cumprod {tuple(product.shape)} are no schedule")
    abar, stored = schedule.from_betas(betas), product.double()
    abar[1:] = torch.where(stored < 0.5, stored, abar[1:])
    return from_rounded(1 - abar[1:] / abar[:-1])


def objective_of(weight: Tensor | None, abar: Tensor) -> str | None:
    """The objective that lucidrains' weights of the loss (T,) belong to, with or without its cap of 5; else None."""
    snr = abar[1:] / (1 - abar[1:])  # (T,)
    if weight is None or weight.shape != snr.shape:
        return None
    for capped in (snr, snr.clamp(max=5)):
        for name, expected in {"eps": capped / snr, "x0": capped, "v": capped / (snr + 1)}.items():
            if torch.allclose(weight.double(), expected, rtol=1e-3, atol=1e-6):
                return name
    return None


LAYOUTS: dict[str, tuple[str, Callable[[State, Options, Path], Model]]] = {  # its key, and what reads it
    "the official DDIM code": ("temb.dense.0.weight", official),
    "improved-diffusion or guided-diffusion": ("input_blocks.0.0.weight", improved),
    "lucidrains' denoising-diffusion-pytorch": ("init_conv.weight", lucid),
}
