"""Runs that end by their time, by a clock that is given: on time, by the course of their learning rate, resumed."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.clocks import Ticking
from support.command_line import environment, refused
from support.training import TIMED, losses

import ddim
from ddim.errors import InputError
from ddim.training import planning
from ddim.training.budget import DataFacts, Speed
from ddim.training.loop import rate
from ddim.training.run import stored
from ddim.training.settings import Settings


def state_of(run: Path) -> dict:
    return torch.load(run / "state" / "last.pt", weights_only=True)


def lines_of(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


@pytest.mark.parametrize("clock", [Ticking(0.2), Ticking(0.1, 30, 2.5)], ids=["even", "busy"])
def test_a_run_ends_on_time_with_its_rate_at_0(clock: Ticking, tmp_path, alone):
    made = ddim.train("digits", tmp_path / "run", time="100s", clock=clock, **TIMED)
    assert made.finished
    assert abs(clock.now - 100) < 10
    lines = lines_of(made.out)
    lr = stored(made.out)[1].optimiser.lr
    assert max(line["lr"] for line in lines) > 0.9 * lr
    assert lines[-1]["lr"] < 0.05 * lr
    assert lines[-1]["step"] == made.step
    rates = [line["lr"] for line in lines[10:]]
    assert rates == sorted(rates, reverse=True)
    assert sorted((made.out / "samples").iterdir())[-1].name == f"step-{made.step:07d}.png"
    assert ddim.load(made.out, "cpu").facts.steps == made.step


def test_a_stop_and_a_resume_go_on_where_they_were(tmp_path, alone):
    """Pauses do not count, and the first rate of the resume is the one that the state leads to."""
    clock = Ticking(0.2)
    clock.until = 40.0
    made = ddim.train("digits", tmp_path / "run", time="100s", clock=clock, **TIMED)
    assert not made.finished
    state = state_of(made.out)
    assert 39 < state["seconds"] < 45
    clock.now += 5000
    began = clock.now
    again = ddim.train(out=made.out, resume=True, clock=clock, device="cpu")
    assert again.finished
    assert abs(clock.now - began - (100 - state["seconds"])) < 10
    o = stored(made.out)[1].optimiser
    first = next(line for line in lines_of(made.out) if line["step"] == state["step"] + 1)
    assert first["lr"] == rate(o, state["step"] + 1, state["course"])
    assert [step for step, _ in losses(made.out)] == list(range(1, again.step + 1))


def test_more_time_at_a_resume_states_the_new_course(tmp_path, alone, capsys):
    clock = Ticking(0.2)
    made = ddim.train("digits", tmp_path / "run", time="50s", clock=clock, **TIMED)
    used = state_of(made.out)["seconds"]
    assert ddim.train(out=made.out, resume=True, clock=clock, device="cpu").step == made.step
    said = capsys.readouterr().err
    assert "of 50 s are used, so nothing is left to do: give a longer time in all, such as --time 2m" in said
    again = ddim.train(out=made.out, resume=True, time="150s", clock=clock, device="cpu")
    said = capsys.readouterr().out
    assert "of 2 min 30 s are used: the learning rate goes on from" in said
    lr = stored(made.out)[1].optimiser.lr
    first = next(line for line in lines_of(made.out) if line["step"] == made.step + 1)
    share = used / (150 - state_of(made.out)["reserve"])
    assert first["lr"] == pytest.approx(lr * (0.5 + 0.5 * torch.tensor(torch.pi * share).cos().item()), rel=0.05)
    assert lines_of(made.out)[-1]["lr"] < 0.05 * lr
    kept = json.loads((made.out / "train.json").read_text())
    assert kept["changes"] == [{"step": made.step, "time": "150s"}]
    assert again.finished


def test_a_stop_while_measuring_is_resumed_like_any_other(tmp_path, ddim_cli, alone, capsys):
    clock = Ticking(0.5)
    clock.until = 4.0
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it
    with pytest.raises(KeyboardInterrupt):
        ddim.train("digits", tmp_path / "run", time="3m", clock=clock, labels=True, device="cpu", seed=7)
    signal.signal(signal.SIGINT, before)
    assert f"first step; continue with: ddim train --out {tmp_path / 'run'} --resume" in capsys.readouterr().out
    made = ddim.train(out=tmp_path / "run", resume=True, clock=Ticking(0.5), device="cpu")
    assert made.finished
    kept = json.loads((made.out / "train.json").read_text())
    assert "unplanned" not in kept
    assert (kept["seed"], kept["labels"], kept["time"], kept["size"], kept["preset"]) == (7, True, "3m", 8, None)
    assert len(kept["classes"]) == 10


def test_everything_is_chosen_and_said(tmp_path, alone, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = ddim.train("digits", time="40s", clock=Ticking(0.2), device="cpu")
    assert made.out == Path("runs/digits")
    said = capsys.readouterr().out
    assert "measuring this machine, to choose for 40s" in said
    assert "chosen: 8×8 grey, width 32" in said
    assert "images/s, so about" in said
    assert " M parameters, on cpu" in said
    assert said.count("M parameters") == 1  # of the network that is trained
    assert "colour" not in said  # of grey images
    settings = stored(made.out)[1]
    assert (settings.data.size, settings.data.channels, settings.data.flip) == (8, 1, False)
    assert made.resume == f"ddim train --out {tmp_path / 'runs' / 'digits'} --resume"


def test_a_plan_counts_the_images_that_are_trained_on(capsys):
    """1,000 images of 100 in ten seconds: each ten times, and each twenty where half of them are held out."""
    for share, times in ((0.0, 10), (0.5, 20)):
        planning.tell(Settings().changed(held_out=share), Speed(100.0, 10), DataFacts(100, 32), 10.0, False)
        assert f"1,000 images in 10 s, each {times} times: " in capsys.readouterr().out


def test_a_preset_that_the_time_does_not_fit_is_warned_of(tmp_path, alone, capsys):
    changes = {"data": "digits", "steps": 2, "batch_size": 2, "ch": 32}
    ddim.train(out=tmp_path / "run", preset="cifar10", time="30s", clock=Ticking(1.0), device="cpu", **changes)
    warned = capsys.readouterr().err
    assert "M parameters is too large for 30s on this machine: name no preset" in warned
    assert stored(tmp_path / "run")[1].network.ch == 32


def test_a_time_too_short_for_one_step_is_refused(tmp_path, alone):
    """A batch of 512 takes 51 steps of the clock, two seconds each, as the two images of the first trial do."""
    with pytest.raises(InputError, match=r"20s is too short: one step of 512 images of 8×8 takes about .*--batch-size"):
        ddim.train("digits", tmp_path / "run", time="20s", clock=Ticking(4.0), device="cpu", batch_size=512)
    assert not (tmp_path / "run").exists()


def test_a_broken_image_is_found_before_the_machine_is_measured(tmp_path, alone, capsys):
    for k in range(30):
        Image.new("RGB", (16, 16), (k, 0, 0)).save(tmp_path / f"{k:02d}.png")
    (tmp_path / "17.png").write_bytes((tmp_path / "17.png").read_bytes()[:-30])
    with pytest.raises(InputError, match=r"17\.png: not a readable image .* pass --skip-broken"):
        ddim.train(tmp_path, tmp_path.parent / "run", time="30s", clock=Ticking(0.2), device="cpu")
    assert "measuring" not in capsys.readouterr().out


def test_images_too_few_to_learn_from_are_warned_of(capsys):
    for n, warned in ((3, True), (100, False)):
        planning.tell(Settings(), Speed(100.0, 10), DataFacts(n, 32), 20.0, False)
        assert ("3 images will be learned by heart" in capsys.readouterr().err) is warned


def test_what_a_training_that_begins_with_a_model_changes_is_said(capsys):
    settings = Settings().changed(init="emoji", batch_size=8)
    for images, said in ((300.0, "so few steps teach the model little"), (900.0, "samples move from the model's")):
        planning.tell(settings, Speed(images, 10), DataFacts(100, 32), 1.0, True)
        assert said in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_end_together(tmp_path):
    run = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ddim"]
    verb = ["train", "--data", "digits", "--time", "25s", "--device", "cpu", "--out", str(run)]
    result = subprocess.run(
        torchrun + verb, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=1200
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("model: ") == 1
    assert stored(run)[1].optimiser.batch_size % 2 == 0
    assert state_of(run)["step"] == lines_of(run)[-1]["step"]


def test_times_that_cannot_be_are_refused(ddim_cli, tmp_path):
    refused(ddim_cli("train", "--data", "digits", "--time", "soon"), "--time takes a time such as 90s, 45m, 2h")
    refused(ddim_cli("train", "--data", "digits", "--time", "5s"), "--time must be from 20s to 366d; got 5s")
    refused(ddim_cli("train", "--time", "5m"), "which run is meant? name a preset, --data or --out")
    refused(ddim_cli("train", "--data", "./nothing", "--time", "5m"), "./nothing: no such folder or file")
    refused(ddim_cli("train", "--data", "digits"), "train needs a preset first", "or a --time, such as 2h")
    assert not (tmp_path / "runs").exists()


def test_a_picture_that_cannot_be_read_leaves_no_run(ddim_cli, tmp_path):
    (tmp_path / "mine").mkdir()
    for k in range(3):
        Image.new("RGB", (16, 16), (k, 0, 0)).save(tmp_path / "mine" / f"{k}.png")
    (tmp_path / "mine" / "3.png").write_bytes(b"broken")
    result = ddim_cli("train", "--data", "mine", "--time", "20s", "--device", "cpu")
    assert result.returncode == 2
    assert "mine/3.png: not a readable image" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_what_is_said_names_what_would_help_and_can_be_typed(tmp_path: Path, ddim_cli):
    """Classes that are there, v where the time is short, and a command that a shell reads."""
    for name in ("ä ö", "b"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for k in range(4):
            Image.new("RGB", (16, 16), (40 * k, 90, 10)).save(tmp_path / "mine" / name / f"{k}.png")
    few = ("--time", "20s", "--steps", 2, "--ch", 8, "--groups", 4, "--mult", 1, "--size", 16, "--patch", 1)
    first = ddim_cli("train", "--data", "mine", "--out", "my run", *few)
    assert "of 2 classes: --labels would teach them" in first.stdout
    assert "--predict v gives better images" in first.stdout
    assert f"sample it: ddim sample {shlex.quote('my run')}" in first.stdout
    second = ddim_cli("train", "--data", "mine", "--out", "other", "--labels", "--predict", "v", *few)
    assert second.returncode == 0, second.stderr
    assert "--labels would" not in second.stdout
    assert "--predict v gives" not in second.stdout
    refused(ddim_cli("train", "--data", "mine", "--time", "20s", "--predict", "x0"), "--predict")
