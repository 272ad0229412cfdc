"""Held-out images: which they are, that they are never trained on, their loss by level, and what it says."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from support.command_line import refused
from support.models import labelled_model, tiny_model
from support.training import OPTIONS, TINY, losses

import ddim
from ddim.training import loop
from ddim.training.held_out import LEVELS, divided, losses_by_level, some
from ddim.training.new_model import build
from ddim.training.verdict import Measurement, verdict


def shades(n: int = 200) -> torch.Tensor:
    """n images of one shade each, (n, 1, 8, 8) uint8: a shade tells which image it is."""
    return torch.arange(n).to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()


def test_the_parts_are_all_and_apart_and_the_same_again():
    labels = torch.arange(200) % 7
    parts = divided(shades(), labels, 0.1, seed=3)
    seen, held = (set(images[:, 0, 0, 0].tolist()) for images in (parts.seen, parts.held))
    assert len(held) == 20
    assert seen | held == set(range(200))
    assert not seen & held
    for images, told in ((parts.seen, parts.labels), (parts.held, parts.held_labels)):
        assert torch.equal(images[:, 0, 0, 0].long() % 7, told)
    again, other = divided(shades(), None, 0.1, seed=3), divided(shades(), None, 0.1, seed=4)
    assert torch.equal(again.held, parts.held)
    assert not torch.equal(other.held, parts.held)
    assert len(divided(torch.zeros(30_000, 1, 1, 1), None, 0.1, 0).held) == 1000
    whole = divided(shades(9), None, 0.1, 0)
    assert whole.held is None
    assert len(whole.seen) == 9


def test_a_set_that_is_read_as_it_comes_is_divided_alike():
    found = ddim.data.find("digits", 8, 1)
    numbers = torch.from_numpy(found.labels.numbers)
    streamed, held = divided(found, numbers, 0.05, 1), divided(ddim.data.load(found), numbers, 0.05, 1)
    assert len(streamed.seen) == len(held.seen) == 1797 - 89
    for i in (0, 700, 1707):
        assert torch.equal(streamed.seen[i], held.seen[i])
    pixels, told = some(streamed.held, streamed.held_labels, 5)
    assert torch.equal(pixels, held.held[:5])
    assert torch.equal(told, held.held_labels[:5])


def test_what_is_held_out_is_never_trained_on(monkeypatch):
    shown = []
    loss = loop.OBJECTIVES["eps"]
    monkeypatch.setitem(loop.OBJECTIVES, "eps", lambda network, x0, *rest: shown.append(x0) or loss(network, x0, *rest))
    parts = divided(shades(), None, 0.1, TINY.optimiser.seed)
    model = build(TINY)
    state = loop.State.new(TINY.optimiser, model.network)
    list(islice(loop.fit(TINY, state, model.abar, parts.seen, Accelerator(cpu=True)), 30))
    seen = set(((torch.cat(shown)[:, 0, 0, 0] + 1) * 127.5).round().long().tolist())
    assert seen == set(parts.seen[:, 0, 0, 0].tolist())  # 480 images: each of the 180, twice and more


def test_the_loss_by_level_is_the_mean_squared_error_of_eps():
    """By a loop over images and levels, with the model's own prediction."""
    model = tiny_model()
    images = torch.randint(0, 256, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    expected = torch.zeros(3, LEVELS)
    for k in range(3):
        eps = torch.randn(LEVELS, 1, 8, 8, generator=torch.Generator().manual_seed(5 * 2**20 + k))
        for j in range(LEVELS):
            t = int((j + 0.5) * 1000 / LEVELS)
            a = model.abar[t].item()
            x = a**0.5 * (images[k].float() / 127.5 - 1) + (1 - a) ** 0.5 * eps[j]
            expected[k, j] = ((model(x[None], t).eps[0] - eps[j]) ** 2).mean()
    found = losses_by_level(model, images, None, 5, Accelerator(cpu=True))
    assert found == pytest.approx(expected.mean(0).tolist(), rel=1e-4)
    told = labelled_model()
    both = [losses_by_level(told, images, torch.full((3,), label), 5, Accelerator(cpu=True)) for label in (0, 1)]
    assert both[0] != both[1]


def test_a_run_keeps_its_held_out_losses_and_a_resume_measures_the_same_images(ddim_cli, tmp_path):
    how = ("train", "digits", "--held-out", 0.05, *OPTIONS, "--sample-every", 10, "--log-every", 5)
    assert ddim_cli(*how, "--steps", 40, "--out", "whole").returncode == 0
    assert ddim_cli(*how, "--steps", 20, "--out", "half").returncode == 0
    refused(
        ddim_cli("train", "digits", "--out", "half", "--resume", "--held-out", 0.1),
        "--held-out 0.1 contradicts the run, which has 0.05",
    )
    result = ddim_cli("train", "digits", "--out", "half", "--resume", "--steps", 40)
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "half") == losses(tmp_path / "whole")
    measured = {}
    for run in ("whole", "half"):
        lines = [json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
        measured[run] = [line for line in lines if "held_out" in line]
    whole, half = measured["whole"], measured["half"]
    assert [line["step"] for line in whole] == [10, 20, 30, 40]
    assert [line["step"] for line in half] == [10, 20, 30, 40]
    assert {line["n"] for line in half} == {half[0]["n"]}
    for line in whole:
        assert line["held_out"] == pytest.approx(sum(line["held_out_by_level"]) / LEVELS)
    assert whole[-1]["held_out"] < whole[0]["held_out"]
    assert "held-out loss 0." in result.stdout
    without = ddim_cli("train", "digits", *OPTIONS, "--steps", 3, "--out", "plain")
    assert "held-out" not in without.stdout


def test_verdicts():
    def of(*values: tuple[float, float]) -> str:
        return verdict([Measurement(100 * (k + 1), *value) for k, value in enumerate(values)])

    assert of((0.5, 0.5), (0.1, 0.1)) == ""
    assert "fell by 20% in the last third: more time would help" in of((0.5, 0.5), (0.1, 0.1), (0.08, 0.08))
    assert "help a little" in of((0.5, 0.5), (0.1, 0.1), (0.098, 0.098))
    assert "levelled off" in of((0.5, 0.5), (0.1, 0.1), (0.0999, 0.0999))
    memorised = of((0.5, 0.5), (0.10, 0.10), (0.11, 0.09), (0.12, 0.07))
    assert "has risen from 0.1000 at step 200 while that of training images fell" in memorised
    assert "levelled off" in of((0.5, 0.5), (0.10, 0.10), (0.11, 0.11))  # both rose: no sign of memorising
    assert of((0.84, 0.8)).startswith("a loss of 0.84 means that almost nothing was learned")
    jumped = of((0.5, 0.5), (0.19, 0.19), (0.83, 0.84))
    assert "has jumped from 0.19 at step 200 to 0.83: the learning rate is too large" in jumped
    few = verdict([Measurement(100 * k, 0.1 + k / 100, 0.1 - k / 100, 2) for k in range(1, 5)])
    assert few.startswith("only 2 held-out images were measured: too few")


def test_what_to_keep_the_best_by_is_asked_for_before_the_run(tmp_path: Path, ddim_cli):
    refused(ddim_cli("train", "digits", "--time", "20s", "--keep-best", "--held-out", 0), "leave out --held-out 0")
