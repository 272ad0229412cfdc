"""Short trainings of a tiny network on the embedded digits."""

import json
from itertools import islice
from pathlib import Path

from accelerate import Accelerator

from ddim import images as data
from ddim.training import loop as train
from ddim.training.new_model import build
from ddim.training.presets import PRESETS

TINY = PRESETS["digits"].changed(ch=8, groups=4, mult=(1, 1), batch_size=16, steps=30, warmup=5, decay=False)
# A network that was said, for runs that end by a clock.
TIMED = {"ch": 8, "groups": 4, "mult": (1, 1), "layers": 1, "attention": (), "size": 8, "channels": 1, "batch_size": 8}
TIMED |= {"dropout": 0.0, "warmup": 2, "precision": "fp32", "device": "cpu", "patch": 1, "log_every": 1}
OPTIONS = [
    "--ch",
    "8",
    "--groups",
    "4",
    "--mult",
    "1",
    "1",
    "--batch-size",
    "16",
    "--warmup",
    "5",
    "--no-decay",
    "--save-every",
    "10",
    "--sample-every",
    "1000",
]


LONG = 20_000  # steps that no test waits for; of many more, a busy machine would say that they take days


def losses(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def fit(preset=TINY, steps: int = 5, pictures=None) -> tuple[list[float], train.State]:
    model = build(preset)
    state = train.State.new(preset.optimiser, model.network)
    pictures = data.load(data.find("digits", 8, 1)) if pictures is None else pictures
    return [
        x.item() for x in islice(train.fit(preset, state, model.abar, pictures, Accelerator(cpu=True)), steps)
    ], state
