"""The tab of trainings: what a run folder holds is shown, whoever trains; one is started and stopped by hand."""

import re
from pathlib import Path

import pytest
from support.browser import fill, lines, pngs, served
from support.training import TIMED

import ddim
from ddim.studio import Studio
from ddim.training.record import record


def trained(out: Path, steps: int = 6) -> None:
    how = {name: value for name, value in TIMED.items() if name not in ("size", "channels")}
    ddim.train("digits", out, preset="digits", steps=steps, sample_every=3, save_every=100, **how)


def opened(page):
    page.get_by_role("tab", name="Train", exact=True).click()
    return page.locator("#train")


@pytest.mark.usefixtures("alone")
def test_a_run_is_shown_as_its_folder_has_it(page, place: Path):
    out = place / "out/runs/short"
    trained(out)
    tab = opened(page)
    tab.get_by_role("heading", name="short").wait_for()
    run = record(out)
    assert [step for step, _ in run.losses] == [1, 2, 3, 4, 5, 6]
    assert not run.running
    assert f"step 6, loss {run.losses[-1][1]:.4f}" in tab.locator("#state").inner_text()
    assert pngs(tab.locator("#grown img")) == [(out / f"samples/step-{k:07d}.png").read_bytes() for k in (6, 3)]
    points = tab.locator("polyline").get_attribute("points").split()
    assert len(points) == 6
    assert f"ddim train digits --data digits --out {out}" in lines(tab, "command")
    # What another process adds is seen without a click.
    with open(out / "log.jsonl", "a") as log:
        log.write('{"step": 7, "loss": 0.5}\n')
    tab.get_by_text("step 7, loss 0.5000").wait_for()


def test_what_cannot_be_trained_gets_its_sentence(page):
    tab = opened(page)
    for name, length, words in (
        ("../escape", "2m", "a run is named by letters, digits and hyphens"),
        ("fine", "soon", "--time takes a time such as 90s"),
        ("fine", "", "give the training a time"),
    ):
        fill(tab.get_by_label("Name"), name)
        fill(tab.get_by_label("Time"), length)
        tab.get_by_role("button", name="Train", exact=True).click()
        tab.get_by_text(words).wait_for()
    tab.get_by_role("button", name="Stop", exact=True).click()
    tab.get_by_text("no training that was started here is running").wait_for()


def test_read_only_has_no_buttons(chromium, tmp_path: Path):
    with served(Studio(("digits",), tmp_path / "out", read_only=True, device="cpu")) as address:
        page = chromium.new_page()
        page.goto(address)
        tab = opened(page)
        tab.get_by_text("No run yet").wait_for()
        assert not tab.get_by_role("button", name="Train", exact=True).count()
        page.close()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("train.json"))


@pytest.mark.slow
def test_a_training_is_started_seen_and_stopped(page, place: Path):
    """The command that is shown is the one that was run; the stopped run is a model that can be sampled."""
    tab, out = opened(page), place / "out/runs/mine"
    fill(tab.get_by_label("Name"), "mine")
    fill(tab.get_by_label("Time"), "3m")
    tab.get_by_role("button", name="Train", exact=True).click()
    tab.get_by_text("mine has begun").wait_for()
    tab.get_by_role("heading", name="mine training").wait_for(timeout=120_000)
    tab.get_by_text(re.compile(r"step [\d,]+, loss")).wait_for(timeout=120_000)
    assert f"ddim train --data digits --time 3m --out {out}" in lines(tab, "command")
    tab.get_by_role("button", name="Train", exact=True).click()
    tab.get_by_text("a training is running").wait_for()
    tab.get_by_role("button", name="Stop", exact=True).click()
    tab.get_by_role("heading", name="mine not running").wait_for(timeout=120_000)
    assert ddim.load(out, "cpu").shape == (1, 8, 8)
