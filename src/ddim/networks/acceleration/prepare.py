"""Making a model ready for sampling and nothing else: its precision, and the fastest form of its network."""

from dataclasses import replace
from typing import Literal

import torch

from ddim.diffusion.model import Model, levels
from ddim.errors import InputError, choose, shown
from ddim.networks.acceleration.compiled import compiled
from ddim.networks.acceleration.int8 import quantised
from ddim.networks.acceleration.packed import folded, packed
from ddim.system.machine import fast_products, native_int8, precision_of, return_memory

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def prepare(model: Model, precision: Precision = "auto", compile: bool = False) -> Model:
    """The model with its network in a precision and compiled, or packed on a CPU: as the command line runs it.

    The network is changed in place: it can no longer be saved, trained or moved. auto: bf16 where the device multiplies
    it by itself, else fp32.  int8: auto with 8-bit convolutions, on a CPU that multiplies bytes.
    `facts.precision` says what was chosen. Changes torch's setting for float32 products on AMD CPUs. Raises InputError.
    """
    if not isinstance(model, Model):
        levels(model)
        raise InputError(f"prepare needs a ddim.Model, with a network; got {shown(model)}")
    choose("precision", precision, {**PRECISIONS, "auto": None, "int8": None})
    fast_products()
    kind = model.device.type
    name = precision_of(precision, kind)
    if name == "int8" and not (kind == "cpu" and native_int8()):
        raise InputError("precision int8 needs a CPU that multiplies bytes (VNNI); choose auto")
    # What a model is called by is computed from its weights before they are rounded.
    facts = replace(model.facts, fingerprint=model.fingerprint, precision=name)
    if kind == "cpu":
        folded(model.network)
    model.to(dtype=PRECISIONS[precision_of("auto", kind) if name == "int8" else name])
    if name == "int8":
        quantised(model)
    if compile:
        return replace(model, facts=facts, network=compiled(model.network))
    if kind == "cpu" and name in ("bf16", "int8"):  # float32 gains little, and its peak of memory grows by a quarter
        packed(model.network)
        return_memory()
    return replace(model, facts=facts)
