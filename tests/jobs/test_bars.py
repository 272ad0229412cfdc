"""Jobs tell a function how far they are, and end by what it raises."""

from pathlib import Path

import pytest
from support.models import tiny_model

import ddim


def test_a_function_is_told_how_far_a_job_is(tmp_path: Path):
    told = []
    how = {"n": 3, "steps": 4, "batch_size": 2}
    ddim.sample_files(tiny_model(), tmp_path / "a", **how, progress=lambda *now: told.append(now))
    assert told == [("sampling", done, 12) for done in (2, 4, 6, 8, 9, 10, 11, 12)]


def test_what_it_raises_ends_the_job_and_another_call_goes_on(tmp_path: Path):
    class Enough(Exception):
        pass

    def enough(what: str, done: int, total: int) -> None:
        if done > 8:
            raise Enough

    how = {"n": 3, "steps": 4, "batch_size": 2}
    with pytest.raises(Enough):
        ddim.sample_files(tiny_model(), tmp_path / "a", **how, progress=enough)
    assert len(list((tmp_path / "a").glob("*.png"))) == 2
    ddim.sample_files(tiny_model(), tmp_path / "a", **how)
    assert len(list((tmp_path / "a").glob("*.png"))) == 3
