"""What a run folder tells to whoever looks on."""

import json
from pathlib import Path

import pytest

from ddim.errors import InputError
from ddim.system.files import held, is_held
from ddim.training.record import record


def test_a_record_is_what_the_folder_has(tmp_path: Path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "train.json").write_text(json.dumps({"data": "digits"}))
    for step in (20, 3):
        (tmp_path / f"samples/step-{step:07d}.png").write_bytes(b"")
    lines = [{"step": 1, "loss": 2.0, "images_per_second": 10.0}, {"step": 2, "loss": 1.0}]
    lines += [{"step": k, "held_out": 0.25, "seen": 0.125, "held_out_by_level": [0.25], "n": 80} for k in (2, 3, 4)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 5, "lo')
    found = record(tmp_path)
    assert found.losses == [(1, 2.0), (2, 1.0)]
    assert [(m.step, m.held_out, m.seen) for m in found.held_out] == [(k, 0.25, 0.125) for k in (2, 3, 4)]
    assert [step for step, _ in found.sheets] == [3, 20]
    assert found.words[0] == "step 2, loss 1.0000"
    assert "held-out loss 0.2500" in found.words[1]
    assert "levelled off" in found.words[2]
    assert not found.running
    with held(tmp_path):
        assert record(tmp_path).running
    assert not is_held(tmp_path)
    assert not is_held(tmp_path / "nowhere")


def test_no_run_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="holds no run"):
        record(tmp_path)
