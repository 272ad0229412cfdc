"""What is due along a run by minutes, and what is said of one that would take days, by a clock that is given."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from support.clocks import Ticking
from support.training import losses

import ddim
from ddim.checkpoints.bundled_models import bundled
from ddim.cli.commands.train import REACHED
from ddim.training.new_model import unet_config
from ddim.training.presets import PRESETS

TINY = {"ch": 8, "groups": 4, "mult": (1, 1), "batch_size": 4, "warmup": 2, "device": "cpu", "preset": "digits"}


def sheets(run: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in (run / "samples").iterdir())


def test_sheets_come_by_minutes_the_first_after_two(tmp_path, alone):
    """A step is some looks at the clock of 7 s each: what is due after so many minutes is drawn by so many steps."""
    made = ddim.train("digits", tmp_path / "run", steps=40, sample_minutes=5, clock=Ticking(7.0), **TINY)
    steps = sheets(made.out)
    assert 2 <= steps[0] <= 18  # two minutes are 17 looks
    gaps = [b - a for a, b in pairwise(steps[:-1])]
    assert len(gaps) >= 1
    assert max(gaps) <= 44 / 2  # five minutes are 43 looks, two a step at least
    assert steps[-1] == 40
    none = ddim.train("digits", tmp_path / "none", steps=40, sample_minutes=0, clock=Ticking(7.0), **TINY)
    assert sheets(none.out) == [40]
    assert losses(none.out) == losses(made.out)  # drawing changes nothing


def test_states_are_saved_by_minutes_and_resumed_exactly(tmp_path, alone):
    how = TINY | {"decay": False, "save_every": 10**6, "sample_minutes": 0, "log_every": 7}
    whole = ddim.train("digits", tmp_path / "whole", steps=40, clock=Ticking(0.0), **how)
    seen = []
    keep = torch.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", lambda content, file: (seen.append(content["step"]), keep(content, file)))
        made = ddim.train("digits", tmp_path / "run", steps=30, save_minutes=1, clock=Ticking(5.0), **how)
    assert len(seen) >= 3
    assert max(b - a for a, b in pairwise([0, *seen])) <= 13 / 2 + 1  # a minute is 12 looks
    assert seen[-1] == 30
    ddim.train(out=made.out, resume=True, steps=40, device="cpu")
    assert dict(losses(made.out))[40] == pytest.approx(dict(losses(whole.out))[40])


def test_a_run_of_days_says_so_after_its_first_steps(tmp_path, alone, capsys):
    made = ddim.train("digits", tmp_path / "run", steps=800_000, clock=Ticking(2.0, until=60.0), **TINY)
    assert not made.finished
    said = capsys.readouterr().err
    assert said.count("this takes") == 1
    assert "days: give --time 2h for the best that two hours make" in said
    ddim.train("digits", tmp_path / "short", steps=30, clock=Ticking(2.0), **TINY)
    assert "this takes" not in capsys.readouterr().err


def test_the_laptop_preset_is_the_bundled_network(ddim_cli):
    """Without classes, which are the caller's to ask for; and of as many images."""
    model, preset = ddim.load("cifar10", "cpu"), PRESETS["cifar10-laptop"]
    assert replace(unet_config(preset), num_class_embeds=11) == model.network.config
    o = preset.optimiser
    assert o.steps * o.batch_size == pytest.approx(model.facts.images, rel=0.01)
    card = (bundled()["cifar10"] / "README.md").read_text()
    assert f"{model.facts.images:,} images" in card
    assert REACHED.keys() == PRESETS.keys()
    assert "268" in card
    assert "268 seconds" in " ".join(ddim_cli("train", "cifar10-laptop", "--help").stdout.split())
