"""What is known of a model besides its function: where it comes from, and what its folder says of sampling."""

from dataclasses import dataclass, field
from typing import Any

from ddim.diffusion.clipping import Clip
from ddim.diffusion.solvers.tuned import Tuning


@dataclass(frozen=True)
class Facts:
    """What is known of a model beside its weights. None means: not known. `notes` is free text, and decides nothing."""

    source: str | None = None  # the folder, file, bundled name or Hub id that it was loaded from
    layout: str | None = None  # of a foreign file: whose code wrote it
    preset: str | None = None  # the training preset
    data: str | None = None  # the images that it was trained on, as `--data` names them
    classes: tuple[str, ...] | None = None  # the names of its classes, by their number
    steps: int | None = None  # optimiser steps that it was trained for
    images: int | None = None  # images that it was trained on, repeats counted
    averaged: bool | None = None  # whether its weights are the moving average of training
    precision: str = "fp32"  # of the network: fp32, bf16, fp16 or int8
    fingerprint: str | None = None  # of the float32 weights that a network in less precision was rounded from
    clip: Clip | bool | None = None  # how its folder says that x̂_0 is clipped when sampling
    spacing: str | None = None  # how its folder says that times are spread when sampling: a name of `schedule.times`
    last_time: int = 0  # where its folder says that sampling ends: 1 is the level of the first β, 0 the data
    tuning: Tuning | None = None  # the solvers that it was tuned for
    scheduler: dict[str, Any] = field(default_factory=dict)  # every field of its diffusers scheduler_config.json
    assumed: dict[str, Any] = field(default_factory=dict)  # what its file did not say, and was taken instead
    notes: dict[str, Any] = field(default_factory=dict)  # free text for people
