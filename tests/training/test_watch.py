"""Times in words and in seconds; how much of a run's time is used; what is due by minutes."""

import pytest

from ddim.errors import InputError
from ddim.training.watch import Timer, Watch, in_words, seconds_of


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_times_are_read():
    texts = {"90s": 90, "45m": 2700, "2h": 7200, "1h30m": 5400, "1.5d": 129600, "1h 30m": None, "": 0, "2H": 7200}
    for text, seconds in texts.items():
        if seconds is not None:
            assert seconds_of(text) == seconds
    for text in ("2", "h", "two hours", "1h 30m", "-5m", "5m-", "1h30", "2 h"):
        with pytest.raises(InputError, match="--time takes a time such as 90s, 45m, 2h, 1h30m or 1d"):
            seconds_of(text)
    with pytest.raises(InputError, match='time is a text such as "90s"'):
        seconds_of(25)
    for text in ("19s", "0h", "367d"):
        with pytest.raises(InputError, match="--time must be from 20s to 366d"):
            seconds_of(text)


def test_times_are_said():
    said = {5: "5 s", 59.6: "60 s", 90: "1 min 30 s", 120: "2 min", 3600: "1 h", 5400: "1 h 30 min", 90000: "1 day 1 h"}
    said |= {86400 * 71: "71 days"}
    assert {seconds: in_words(seconds) for seconds in said} == said


def test_the_course_is_the_share_of_the_time_and_pauses_are_none_of_it():
    clock = Clock()
    watch = Watch(100.0, reserve=20.0, clock=clock)
    clock.now += 40
    assert watch.used() == 40
    assert watch.course() == 0.5
    clock.now += 500  # between a stop and a resume
    watch.restart(before=40.0, reserve=20.0)
    assert watch.course() == 0.5
    clock.now += 60
    assert watch.course() == 1.0


def test_it_is_over_when_the_end_would_come_too_late():
    clock = Clock()
    watch = Watch(100.0, reserve=20.0, clock=clock)
    for _ in range(7):
        clock.now += 10
        watch.stepped()
        assert not watch.over()
    clock.now += 5
    assert watch.over()  # the end takes 20, and half a step 5
    assert not Watch(0.0, before=1e9, clock=clock).over()
    assert Watch(0.0, before=1e9, clock=clock).course() == 0


def test_what_lies_between_steps_makes_them_no_longer():
    clock = Clock()
    watch = Watch(100.0, clock=clock)
    clock.now += 1
    watch.stepped()
    clock.now += 30
    watch.resumed()
    clock.now += 2
    watch.stepped()
    assert watch.step == 2


def test_a_timer_is_due_first_after_fewer_minutes():
    clock = Clock()
    timer = Timer(10, 2, clock)
    assert not timer.due()
    clock.now += 120
    assert timer.due()
    timer.done()
    clock.now += 599
    assert not timer.due()
    clock.now += 1
    assert timer.due()
    never = Timer(0, 2, clock)
    clock.now += 1e9
    assert not never.due()
