"""The number of threads is what a trial finds the fastest, by a clock that is given."""

import pytest
import torch

from ddim.training import threads


@pytest.fixture
def four():
    """Torch with four threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def clock_of(seconds: dict[int, float], monkeypatch):
    """A clock on which a trial takes so many seconds by the number of threads."""
    now = [0.0]

    def trial():
        now[0] += seconds[torch.get_num_threads()]

    monkeypatch.setattr(threads, "trial", trial)
    return lambda: now[0]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({1: 0.03, 2: 0.02, 4: 0.01}, 4),  # a quiet machine
        ({1: 0.03, 2: 0.02, 4: 0.9}, 2),  # a program on one of the cores
        ({1: 0.03, 2: 0.9, 4: 0.9}, 1),  # on all but one
        ({1: 0.03, 2: 0.02, 4: 0.024}, 4),  # too little a difference
    ],
)
def test_the_fastest_number_is_taken(four, monkeypatch, seconds, expected):
    assert threads.fastest(4, clock_of(seconds, monkeypatch)) == expected


def test_it_follows_the_machine_and_is_put_back(four, monkeypatch, capsys):
    seconds = {1: 0.03, 2: 0.9, 4: 0.9}
    with threads.fitted(True, clock_of(seconds, monkeypatch)) as fit:
        assert torch.get_num_threads() == 1
        assert "1 thread is faster than 4 at present" in capsys.readouterr().out
        seconds |= {2: 0.02, 4: 0.01}
        fit()
        assert torch.get_num_threads() == 4
    assert torch.get_num_threads() == 4


def test_one_process_of_several_says_it(four, monkeypatch, capsys):
    with threads.fitted(True, clock_of({1: 0.03, 2: 0.9, 4: 0.9}, monkeypatch), told=False):
        assert torch.get_num_threads() == 1
        assert not capsys.readouterr().out


def test_a_training_without_a_time_keeps_them(four, monkeypatch):
    with threads.fitted(False, clock_of({1: 0.01, 2: 0.9, 4: 0.9}, monkeypatch)) as fit:
        fit()
        assert torch.get_num_threads() == 4


def test_a_trial_computes_gradients_and_takes_no_random_numbers():
    before = torch.get_rng_state()
    threads.trial()
    assert torch.equal(torch.get_rng_state(), before)
