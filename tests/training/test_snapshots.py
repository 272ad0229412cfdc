"""Models kept on the way: they are those that a shorter run would have ended with."""

import json

import pytest
import torch

import ddim

TINY = {"preset": "digits", "device": "cpu", "ch": 8, "groups": 4, "mult": (1, 1), "batch_size": 16, "warmup": 5}
TINY |= {"decay": False}  # whose course does not depend on where a run ends


def weights(model: ddim.Model) -> list[torch.Tensor]:
    return list(model.network.state_dict().values())


def same(a: ddim.Model, b: ddim.Model) -> bool:
    return all(map(torch.equal, weights(a), weights(b)))


def test_numbered_ones_are_what_shorter_runs_end_with_and_the_best_has_the_least_held_out_loss(tmp_path, alone):
    how = TINY | {"snapshot_every": 15, "held_out": 0.1, "sample_every": 10, "keep_best": True}
    run = ddim.train("digits", tmp_path / "run", steps=40, **how).out
    assert sorted(p.name for p in (run / "snapshots").iterdir()) == ["best", "step-0000015", "step-0000030"]
    short = ddim.train("digits", tmp_path / "short", steps=30, **how).out
    kept = ddim.load(run / "snapshots/step-0000030", "cpu")
    assert kept.facts.steps == 30
    assert same(kept, ddim.load(short, "cpu"))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    held = {line["step"]: line["held_out"] for line in lines if "held_out" in line}
    assert len(held) == 4
    best = ddim.load(run / "snapshots/best", "cpu")
    assert best.facts.steps == min(held, key=held.get)


def test_none_is_kept_unasked(tmp_path, alone):
    assert not (ddim.train("digits", tmp_path / "run", steps=10, held_out=0.1, **TINY).out / "snapshots").exists()


def test_the_best_needs_what_it_is_judged_by(tmp_path):
    with pytest.raises(ddim.InputError, match="--keep-best needs --held-out"):
        ddim.train("digits", tmp_path / "run", steps=2, keep_best=True, **TINY)
    assert not (tmp_path / "run").exists()
