"""The golden values that hold on any machine: losses, samples, latents, a FID (see tools/golden.py)."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.append(str(TOOLS))

import golden  # noqa: E402
import golden_sections  # noqa: E402

# Another kind of CPU differs by up to 9e-6 in these, which add many rounded sums. Everything else is held to 1e-5.
WIDER = ("slerp", "explicit", "pair", "decoded", "interpolate", "official-quadratic", "cifar10", "fake_", "real_")
# On the digits the fixed point of the implicit step does not settle: its values belong to one kind of CPU.
CHAOTIC = ("implicit S=10",)


def outside(section: str, known: dict, found: dict) -> list[str]:
    """A line for each number of a section that is farther from the known one than its tolerance."""
    lines = []
    for name, values in known.items():
        if any(word in name for word in CHAOTIC):
            continue
        within = 1e-4 if any(word in name for word in WIDER) else 1e-5
        own = found.get(name, [])
        apart = [abs(a - b) / max(1, abs(a)) for a, b in zip(values, own, strict=False)]
        if len(own) != len(values) or not all(d <= within for d in apart):  # NaN is beyond it too
            lines.append(f"{section}: {name} is off by {max(apart, default=math.nan):.2g}, more than {within:g}")
    return lines


@pytest.mark.parametrize("section", ["training", "samples", "encodings", "fid", "folder"])
def test_golden_values_hold(section: str, alone):
    known = json.loads(golden.SMALL.read_text())[section]
    found = golden.numbers(golden.recorded(golden_sections.SECTIONS[section]()))
    assert found.keys() == known.keys()
    assert outside(section, known, found) == []


def test_every_loss_of_the_first_twenty_steps_is_among_them():
    known = json.loads(golden.SMALL.read_text())["training"]
    assert sum("losses_each" in name for name in known) == 40


def test_a_change_shows():
    known = {"a": [1.0, 2.0], "slerp": [1.0], "implicit S=10": [0.0]}
    assert outside("s", known, {"a": [1.0, 2.00003], "slerp": [1.0], "implicit S=10": [9.0]}) == [
        "s: a is off by 1.5e-05, more than 1e-05"
    ]
    assert outside("s", known, {"a": [1.0, 2.0], "slerp": [1.00005], "implicit S=10": [0.0]}) == []
    assert len(outside("s", known, {"a": [1.0, float("nan")], "slerp": [], "implicit S=10": [0.0]})) == 2


def test_comparing_names_what_differs():
    x = torch.arange(12.0).view(3, 4)
    old, same, other = (
        golden.recorded({"x": v, "loss": loss}) for v, loss in ((x, 0.1), (x.clone(), 0.1), (x + 1, 0.2))
    )
    assert golden.differences(old, same) == []
    assert golden.differences(old, other) == [
        "x: tensors differ, by up to 1 in the values kept",
        "loss: 0.1 became 0.2",
    ]
    assert golden.differences(old, {}) == [f"x: {old['x']} became None", "loss: 0.1 became None"]


def test_hashes_and_text_are_not_held_on_other_machines():
    record = {"hash": "0123456789012345", "files": ["a.json"], "fid": repr(0.25), "x": golden.recorded(torch.ones(1))}
    assert golden.numbers(record) == {"fid": [0.25], "x": [1.0] * 10}
