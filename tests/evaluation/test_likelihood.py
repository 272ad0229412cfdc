"""`ddim likelihood`: what it prints and writes, what it refuses, and how it continues."""

import json
import math
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from support.command_line import environment, in_process, refused
from support.kills import MOMENTS, Forks
from support.models import labelled_model, tiny_model

import ddim


@pytest.fixture
def images(tmp_path) -> torch.Tensor:
    """Four random greyscale images, as files 0.png … in pictures/: (4, 1, 8, 8) uint8."""
    made = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(made):
        Image.fromarray(image).save(tmp_path / f"pictures/{i}.png")
    return torch.from_numpy(made)[:, None]


def test_the_bound_of_files_is_that_of_their_pixels(ddim_cli, tmp_path, images):
    ddim.save(tiny_model(), tmp_path / "model")
    result = ddim_cli("likelihood", "model", "pictures", "--steps", 5, "--variance", "large", "--batch-size", 3)
    assert result.returncode == 0, result.stderr
    expected = ddim.likelihood(tiny_model(), images, steps=5, variance="large")
    kept = json.loads((tmp_path / "likelihood/model-vlb-S5/likelihood.json").read_text())
    assert kept["bits"] == pytest.approx(expected.bits.tolist(), rel=1e-4)
    assert kept["terms"] == pytest.approx(expected.bound.terms.mean(0).tolist(), rel=1e-4)
    assert kept["x0_error"] == pytest.approx(expected.bound.x0_error.mean(0).tolist(), rel=1e-4)
    assert kept["prior"] + kept["kl"] + kept["decoder"] == pytest.approx(kept["bits_per_dim"])
    assert kept["times"] == [1000, 800, 600, 400, 200, 0]
    error = expected.bits.std().item() / math.sqrt(4)
    assert f"{expected.mean:.4f} ± {error:.4f} bits/dim of 4 images" in result.stdout
    assert Image.open(tmp_path / "likelihood/model-vlb-S5/terms.png").size[0] > 500


def test_the_ode_as_json(ddim_cli, tmp_path, images):
    ddim.save(labelled_model(("cat", "dog"), size=8), tmp_path / "model")
    how = ("--method", "ode", "--steps", 4, "--probes", 3, "--label", "dog", "--n", 3, "--seed", 2, "--json")
    result = ddim_cli("likelihood", "model", "pictures", *how)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    model = labelled_model(("cat", "dog"), size=8)
    expected = ddim.likelihood(model, images[:3], "ode", 4, probes=3, label="dog", seed=2)
    assert found["bits"] == pytest.approx(expected.bits.tolist(), rel=1e-4)
    assert found["halved"] == pytest.approx(expected.halved.mean().item(), rel=1e-4)
    assert found["gap"] == pytest.approx(expected.gap.mean().item(), rel=1e-3)
    assert found["probe_error"] == pytest.approx(expected.probe_error, rel=1e-3)
    assert (found["probes"], found["n"], found["evaluations"]) == (3, 3, 4 + 2 + 1)


def test_one_step_has_no_half(ddim_cli, tmp_path, images):
    ddim.save(tiny_model(), tmp_path / "model")
    how = ("likelihood", "model", "pictures", "--method", "ode", "--probes", 1, "--n", 1, "--out")
    one, two = (ddim_cli(*how, f"of{S}", "--steps", S) for S in (1, 2))
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert "half the steps" not in one.stdout
    assert "against half the steps" in two.stdout
    assert "halved" not in json.loads((tmp_path / "of1" / "likelihood.json").read_text())


def test_what_cannot_be_measured_is_refused(ddim_cli, tmp_path, images):
    ddim.save(tiny_model(), tmp_path / "model")
    ddim.save(labelled_model(), tmp_path / "labelled")
    deep = np.random.default_rng(0).integers(5000, 60000, (8, 8), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    calls = [
        (("model", "deep.png"), "deep.png: has more than 8 bits a sample; convert it to 8 bits first"),
        (
            ("model", "pictures", "--variance", "learned"),
            "has not learned its variance: choose variance small or large",
        ),
        (("model", "pictures", "--steps", 1001), "steps must be from 1 to 1000"),
        (("labelled", "pictures", "--label", "cow"), "unknown class 'cow': give one of cat, dog, ship"),
        (("model", "pictures", "--label", "cat"), "this model knows no classes: give no label"),
        (("model", "pictures", "--method", "ode", "--solver", "exact"), "solver exact inverts sampling"),
        (("model", "pictures", "--method", "ode", "--solver", "sde-dpm++2m"), "solver sde-dpm++2m"),
        (("model", "pictures", "--method", "ode", "--precision", "bf16"), "a network in bf16 has not: choose fp32"),
        (("model", "nothing.png"), "nothing.png: no such folder or file"),
    ]
    for call, words in calls:
        refused(ddim_cli("likelihood", *call), words)
    assert not list(tmp_path.rglob("likelihood.json"))


WAYS = {
    "vlb": ("--steps", "6"),
    "ode": ("--method", "ode", "--steps", "3", "--probes", "2"),
    "ode, exact trace": ("--method", "ode", "--steps", "2", "--probes", "0"),
}


@pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
def test_a_kill_at_any_file_is_continued_to_the_same_bytes(how, tmp_path, images):
    ddim.save(tiny_model(), tmp_path / "model")
    args = ["likelihood", str(tmp_path / "model"), str(tmp_path / "pictures"), *how]
    args += ["--batch-size", "2", "--device", "cpu", "--out", "out"]
    with Forks(environment(tmp_path), args) as forks:
        (tmp_path / "whole").mkdir()
        whole = forks.run(tmp_path / "whole", args)
        names = ["settings.json", "batches.jsonl", "likelihood.json", "terms.png"]
        assert whole.written == [f"out/{name}" for name in names[: 3 if "ode" in how else 4]]
        expected = {path.name: path.read_bytes() for path in (tmp_path / "whole/out").iterdir()}
        for event in range(len(whole.written)):
            for moment in MOMENTS:
                where = tmp_path / f"{event}-{moment}"
                where.mkdir()
                assert forks.run(where, args, event, moment).status == -signal.SIGKILL
                after = forks.run(where, args)
                assert after.status == 0, (event, moment, after.output)
                assert {path.name: path.read_bytes() for path in (where / "out").iterdir()} == expected


STOPPED = """
import os, signal
from ddim.cli.main import main
from ddim.jobs.batch_lines import BatchLines

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background begins without it
add = BatchLines.add

def stopped(self, *line):
    add(self, *line)
    if len(self.found) == 2:
        os.kill(os.getpid(), signal.SIGINT)

BatchLines.add = stopped
raise SystemExit(main())
"""  # however busy the machine is, the signal comes after the second batch


def test_ctrl_c_keeps_the_batches_that_are_measured_and_the_same_command_continues(tmp_path, images):
    """The batches of before are not measured again; the record is that of an unbroken run, bit for bit."""
    ddim.save(tiny_model(), tmp_path / "model")
    args = ("likelihood", "model", *["pictures"] * 30, "--steps", 50, "--batch-size", 2, "--device", "cpu")
    process = subprocess.run(
        [sys.executable, "-c", STOPPED, *map(str, args), "--out", "out"], cwd=tmp_path, env=environment(tmp_path),
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    lines = tmp_path / "out/batches.jsonl"
    said = [line for line in process.stderr.splitlines() if line.startswith("ddim: ")]
    hint = "ddim: interrupted: what is finished is kept, and the same command continues, in out"
    assert (process.returncode, said) == (130, [hint])
    before = lines.read_text().splitlines()
    assert 2 <= len(before) < 60
    assert not (tmp_path / "out/likelihood.json").exists()
    for out in ("out", "whole"):
        assert in_process(tmp_path, *args, "--out", out).returncode == 0
    assert lines.read_text().splitlines()[: len(before)] == before
    for name in ("likelihood.json", "batches.jsonl", "terms.png", "settings.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_damaged_batches_are_measured_again(ddim_cli, tmp_path, images):
    ddim.save(tiny_model(), tmp_path / "model")
    args = ("likelihood", "model", "pictures", "--steps", 4, "--batch-size", 1, "--out", "out")
    assert ddim_cli(*args).returncode == 0
    lines, record = tmp_path / "out/batches.jsonl", (tmp_path / "out/likelihood.json").read_bytes()
    whole = lines.read_text().splitlines()
    short = json.dumps(json.loads(whole[1]) | {"terms": [0.0]})
    spoilt = json.dumps(json.loads(whole[2]) | {"bits": ["x"]})
    none = json.dumps(json.loads(whole[2]) | {"images": [7, 9]})
    lines.write_text("\n".join([whole[0], "[]", "junk", short, spoilt, none, whole[3][:50]]))
    assert ddim_cli(*args).returncode == 0
    assert (tmp_path / "out/likelihood.json").read_bytes() == record
    assert sorted(lines.read_text().splitlines()) == sorted(whole)


def test_a_folder_of_other_settings_is_refused(ddim_cli, tmp_path, images):
    ddim.save(tiny_model(), tmp_path / "model")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("x")
    args = ("likelihood", "model", "pictures", "--steps", 4, "--batch-size", 4, "--json")
    assert ddim_cli(*args, "--out", "out").returncode == 0
    kept = (tmp_path / "out/likelihood.json").read_bytes()
    calls = [
        (("--out", "mine"), "mine: holds other files; name an empty or a new folder"),
        (("--out", "out", "--steps", 5), "out: holds files made with steps 4, not 5; name another folder"),
        (("--out", "out", "--seed", 1), "out: holds files made with seed 0, not 1; name another folder"),
        (("--out", "out", "--n", 2), "out: holds files made with images "),
        (("--out", "out", "--batch-size", 3), "out: holds files made with batch_size 4, not 3; name another folder"),
        (("--out", "out", "--method", "ode"), "out: holds files made with method vlb, not ode; name another folder"),
    ]
    for more, words in calls:
        refused(ddim_cli(*args, *more), words)
    assert (tmp_path / "out/likelihood.json").read_bytes() == kept
    assert (tmp_path / "mine/notes.txt").read_text() == "x"
