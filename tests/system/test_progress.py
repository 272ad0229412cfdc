"""The bar's rate and time left, by a clock that is given; its lines where there is no terminal."""

import io
import sys
from importlib import import_module

import pytest

progress = import_module("ddim.system.progress")  # the package exports the function of that name


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_pace_is_known_after_the_first_step_however_long_it_takes():
    clock = Clock()
    pace = progress.Pace(clock)
    assert pace.speed == 0
    for _ in range(20):
        clock.now += 30
        pace.stepped()
        assert pace.speed == pytest.approx(1 / 30)


def test_a_pace_forgets_what_is_older_than_ten_steps_and_ten_seconds():
    clock = Clock()
    pace = progress.Pace(clock)
    clock.now += 100  # the first step sets up much
    pace.stepped()
    for _ in range(30):
        clock.now += 0.5
        pace.stepped(2)
    assert pace.speed == pytest.approx(4)
    assert len(pace.marks) < 30


def test_times_left():
    said = {5: "0:05", 600: "10:00", 3725: "1:02:05", 86400 * 71: "71 days", 100 * 3600: "4 days"}
    assert {seconds: progress.clock_of(seconds) for seconds in said} == said


def test_lines_of_a_log_file_carry_rate_time_left_and_note(monkeypatch):
    lines = io.StringIO()
    monkeypatch.setattr(sys, "stderr", lines)
    monkeypatch.setattr(progress, "FIRST", -1)
    with progress.progress("training", 10, "image", each=8) as advance:
        advance(note="loss 0.5000")
        advance()
    first = lines.getvalue().splitlines()[0]
    assert first.startswith("training 1/10 ")
    assert " image/s 0:0" in first
    assert first.endswith(" left loss 0.5000")


def test_what_is_known_better_is_shown(monkeypatch):
    lines = io.StringIO()
    monkeypatch.setattr(sys, "stderr", lines)
    monkeypatch.setattr(progress, "FIRST", -1)
    with progress.progress("training", 10**9, "image") as advance:
        advance(total=70, left=754.0)
    assert lines.getvalue().splitlines()[0].startswith("training 1/70 ")
    assert "12:34 left" in lines.getvalue()


@pytest.mark.parametrize(
    ("how", "shown"),
    [
        ({}, "sampling 50% 0:0"),  # image steps are no number for people
        ({"unit": "image"}, "sampling 320/640 "),
        ({"unit": "image", "percent": True}, "sampling 50% "),
    ],
)
def test_a_bar_without_a_unit_shows_a_percentage_and_no_rate(how, shown, monkeypatch):
    lines = io.StringIO()
    monkeypatch.setattr(sys, "stderr", lines)
    monkeypatch.setattr(progress, "FIRST", -1)
    with progress.progress("sampling", 640, **how) as advance:
        advance(320)
    line = lines.getvalue().splitlines()[0]
    assert line.startswith(shown)
    assert ("image/s" in line) == ("unit" in how)


def test_a_percentage_does_not_jump_where_the_total_is_thought_anew(monkeypatch):
    """As of a training that ends by its time: a fourth of it is a fourth, however fast the steps turn out."""
    lines = io.StringIO()
    monkeypatch.setattr(sys, "stderr", lines)
    monkeypatch.setattr(progress, "FIRST", -1)
    monkeypatch.setattr(progress, "QUIET", -1)
    with progress.progress("training", 1, "image", percent=True) as advance:
        advance(10, total=100)
        advance(15, total=50)
    assert [line.split()[1] for line in lines.getvalue().splitlines()[:2]] == ["10%", "50%"]
