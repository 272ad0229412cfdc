"""Training that begins with a model: `--init`. What the network is comes from the model, and so does its noise."""

import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ddim.checkpoints.diffusers_config import check_size
from ddim.checkpoints.loading import load
from ddim.checkpoints.scheduler_config import scheduler_config
from ddim.diffusion.facts import Facts
from ddim.diffusion.model import Model
from ddim.errors import InputError
from ddim.networks.unet import UNet
from ddim.training.loss import OBJECTIVES
from ddim.training.settings import Settings, option

TABLE = "class_embedding.weight"
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}


def source_of(settings: Settings, said: Collection[str]) -> Model:
    """The model that a training begins with, on the CPU. Raises InputError where it cannot be trained further."""
    name = settings.network.init
    # A bare file of weights does not always say for which size it is; the network itself does not depend on it.
    sized = {"image_size": settings.data.size} if "size" in said and Path(name).is_file() else {}
    model = load(name, "cpu", **sized)
    if model.predicts not in OBJECTIVES:
        raise InputError(f"{name}: predicts {model.predicts}; only a network that predicts ε or v can be trained")
    if model.predicts == "v" and (loss := settings.optimiser.loss) != "simple":
        raise InputError(f"{name}: predicts v; --loss {loss} needs a network that predicts ε")
    return model


def adopted(settings: Settings, source: Model, said: Collection[str]) -> Settings:
    """Settings with what `source` decides: its network, its noise levels, its channels; its size and its dropout where
    the caller has `said` no other. Raises InputError where the caller has said otherwise.
    """
    own = of_network(source) | of_noise(source) | {"channels": source.shape[0], "predict": source.predicts}
    for name, value in own.items():
        if name in said and (asked := settings.flat()[name]) != value:
            raise InputError(
                f"{option(name)} {in_words(asked)} contradicts {settings.network.init}, which has {in_words(value)}; "
                "leave it out"
            )
    free = {"size": source.shape[1], "dropout": getattr(source.network.config, "dropout", 0.0)}
    return settings.changed(**own, **{name: value for name, value in free.items() if name not in said})


def in_words(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def of_network(model: Model) -> dict:
    """The settings that describe a model's network, as far as there are words for it."""
    c, size = model.network.config, model.shape[1]
    ch = math.gcd(*c.block_out_channels)
    found = {"ch": ch, "mult": tuple(width // ch for width in c.block_out_channels)}
    if not isinstance(model.network, UNet):
        return found
    attends = [size // c.patch >> i for i, kind in enumerate(c.down_block_types) if kind.startswith("Attn")]
    rest = {"attention": tuple(attends), "layers": c.layers_per_block, "groups": c.norm_num_groups, "patch": c.patch}
    return found | rest


def of_noise(model: Model) -> dict:
    """The settings that describe a model's noise levels, as far as there are words for them."""
    config = scheduler_config(model)
    found = {"T": model.T}
    if config.get("trained_betas") is None and not config.get("rescale_betas_zero_snr"):
        found["schedule"] = SCHEDULES[config.get("beta_schedule", "linear")]
        if found["schedule"] != "cosine":
            found |= {"beta_1": config.get("beta_start", 1e-4), "beta_T": config.get("beta_end", 0.02)}
    return found


def prepared(source: Model, settings: Settings, classes: tuple[str, ...] | None) -> Model:
    """A new model with the weights of `source`, to be trained on images of the size, and of the classes, of settings.

    Classes that `source` knows by name keep their embeddings. Others begin as no class, so that the model draws of each
    what it draws of none; beside a network without classes that is with embeddings of 0. Raises InputError.
    """
    name, data = settings.network.init, settings.data
    old = source.network.config
    levels, patch = len(old.block_out_channels), getattr(old, "patch", 1)
    check_size(data.size, levels, patch)
    weights = dict(source.network.state_dict())
    learns = settings.optimiser.loss != "simple"
    config = replace(old, sample_size=data.size, out_channels=old.in_channels * (2 if learns else 1))
    if isinstance(source.network, UNet):
        weights = with_classes(weights, source, classes, data.label_drop > 0, name)
        rows = len(weights[TABLE]) if TABLE in weights else None
        config = replace(config, num_class_embeds=rows, dropout=settings.network.dropout)
    elif classes:
        raise InputError(f"{name}: a {type(source.network).__name__} takes no classes; leave out --labels")
    network = type(source.network)(config)
    for key in ("conv_out.weight", "conv_out.bias", "final_conv.weight", "final_conv.bias"):
        if key in weights:  # the variance comes after the noise: left out, kept, or at first 0, between DDPM's two
            rows, wanted = weights[key], network.state_dict()[key].shape[0]
            more = rows.new_zeros(max(0, wanted - len(rows)), *rows.shape[1:])
            weights[key] = torch.cat([rows[:wanted], more])
    network.load_state_dict(weights)
    shape = (data.channels, data.size, data.size)
    return Model(network, source.abar, shape, source.predicts, Facts(classes=classes))


def with_classes(
    weights: dict[str, Tensor], source: Model, classes: tuple[str, ...] | None, null: bool, name: str
) -> dict[str, Tensor]:
    """Weights with a table of class embeddings for `classes`, and for no class where `null`; without one for None.

    Raises InputError where a class is new and `source` has not learned what no class is.
    """
    table = weights.get(TABLE)
    none = None if table is None or source.null_label is None else table[source.null_label]
    if table is not None and none is None and (not classes or null or set(classes) - set(source.classes)):
        raise InputError(
            f"{name}: knows the classes {', '.join(source.classes[:5])} and not what no class is; train with --labels "
            "on these classes and --label-drop 0"
        )
    rest = {key: value for key, value in weights.items() if key != TABLE}
    if classes is None:
        if none is None:
            return rest
        bias = "time_embedding.linear_2.bias"  # what each embedding is added to: the network without it is the same
        return rest | {bias: rest[bias] + none}
    if none is None:
        none = torch.zeros_like(rest["time_embedding.linear_2.bias"])
    rows = [table[source.classes.index(c)] if table is not None and c in source.classes else none for c in classes]
    return rest | {TABLE: torch.stack([*rows, *([none] if null else [])])}


def continued(out, classes: tuple[str, ...] | None) -> Model:
    """The model in a run folder that began with another, to be trained on: its weights are those of its state."""
    model = load(out, "cpu")
    model.network.requires_grad_(True)
    return replace(model, facts=Facts(classes=classes))
