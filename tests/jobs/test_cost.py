"""A job of hours says so before it begins; a short one times nothing. Long walks come in smaller batches."""

import json
import re

import pytest
import torch
from support.models import tiny_model

from ddim.diffusion import schedule
from ddim.diffusion.model import Model
from ddim.jobs import cost, encode_files, sample_files
from ddim.plots import sheets


class Counted(Model):
    """A model that counts its calls."""

    calls = 0

    def __call__(self, x, t):
        Counted.calls += 1
        return super().__call__(x, t)


@pytest.fixture
def counted(monkeypatch) -> Counted:
    monkeypatch.setattr(Counted, "calls", 0)
    model = tiny_model()
    return Counted(model.network, model.abar, model.shape)


def test_calls_are_those_of_the_solver():
    times = schedule.times(1000, 10)
    assert (cost.calls_of("ddim", times), cost.calls_of("heun", times)) == (10, 19)


def test_a_long_job_says_first_what_it_takes(counted, monkeypatch, capsys):
    ticks = iter(range(100))
    monkeypatch.setattr(cost.time, "perf_counter", lambda: 2.0 * next(ticks))  # each call takes 2 s
    cost.foretell(counted, 4, 999)
    assert (Counted.calls, capsys.readouterr().err) == (0, "")
    cost.foretell(counted, 4, 3600)
    assert Counted.calls == 2
    line = "ddim: this will take about 2.0 hours: 3,600 calls of the network with 4 images, 2 s each on cpu; "
    assert capsys.readouterr().err == f"{line}fewer steps or images take less\n"


def test_sampling_and_encoding_say_it(counted, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cost, "TIMED", 5)
    monkeypatch.setattr(cost, "LONG", 0.0)
    sample_files(counted, tmp_path / "a", n=3, steps=3, batch_size=1)
    sheets.save(sheets.to_pil(torch.zeros(1, 8, 8)), tmp_path / "x.png")
    encode_files(counted, [tmp_path / "x.png"], tmp_path / "z.safetensors", steps=5)
    found = re.findall(r"about 0\.0 hours: (\d+) calls of the network with (\d+) images", capsys.readouterr().err)
    assert found == [("9", "1"), ("5", "1")]
    sample_files(counted, tmp_path / "a", n=3, steps=3, batch_size=1)  # nothing is left to be done
    assert "hours" not in capsys.readouterr().err


def test_batches_are_so_small_that_little_is_lost_and_so_large_that_they_pay(counted, monkeypatch):
    timed = []

    def taking(seconds):
        def measured(model, size: int) -> float:
            timed.append(size)
            return seconds(size)

        timed.clear()
        monkeypatch.setattr(cost, "seconds_of_a_call", measured)
        return lambda n, calls: cost.batch_size_for(counted, n, calls)

    found = taking(lambda size: 0.1 * size)  # as long an image in all batches
    assert found(1000, 49) == 64  # a short walk
    assert timed == []
    assert found(1000, 50) == 4  # 20 s, where 8 take 40 s
    assert timed == [16, 8, 4]
    assert found(1000, 1000) == 1
    assert found(5, 50) == 64  # all of them take 25 s
    found = taking(lambda size: 0.1 * size + 0.2)  # 0.1125 s an image of 16, 0.125 of 8, 0.15 of 4
    assert found(1000, 1000) == 8
    assert timed == [16, 8, 4]
    found = taking(lambda size: 1.0)  # however many
    assert found(1000, 1000) == 16


def test_a_folder_keeps_the_size_that_it_was_begun_with(counted, monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "LOST", 0.0)
    monkeypatch.setattr(cost, "seconds_of_a_call", lambda model, size: 1.0)
    sample_files(counted, tmp_path, n=16, steps=50)
    monkeypatch.setattr(cost, "LOST", 10.0**9)
    sample_files(counted, tmp_path, n=18, steps=50)
    assert json.loads((tmp_path / "sample.json").read_text())["batch_size"] == 16
