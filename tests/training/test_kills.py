"""A training that is killed while it writes any of its files continues to the same bytes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.command_line import environment
from support.kills import MOMENTS, Forks

from ddim.system.files import is_part

BEGIN = [
    "train", "digits", "--out", "run", "--ch", "4", "--groups", "2", "--mult", "1", "--batch-size", "4", "--T", "10",
    "--steps", "3", "--save-every", "1", "--sample-every", "3", "--device", "cpu",
]  # fmt: skip
RESUME = ["train", "digits", "--out", "run", "--resume", "--device", "cpu"]
EVERY = {  # what a run writes by renaming
    "run/train.json", "run/state/last.pt", "run/unet/config.json", "run/scheduler/scheduler_config.json",
    "run/model_index.json", "run/unet/diffusion_pytorch_model.safetensors", "run/loss.png",
    "run/samples/step-0000003.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def forks(tmp_path_factory) -> Iterator[Forks]:
    with Forks(environment(tmp_path_factory.mktemp("cache")), BEGIN) as started:
        yield started


@pytest.fixture(scope="module")
def unbroken(forks: Forks, tmp_path_factory) -> tuple[dict[str, object], list[str]]:
    """The files of a run that nobody killed, and what it renamed into place, in order."""
    where = tmp_path_factory.mktemp("unbroken")
    ended = forks.run(where, BEGIN)
    assert ended.status == 0, ended.output
    assert set(ended.written) == EVERY
    return files(where), ended.written


@pytest.fixture(scope="module")
def begun(forks: Forks, unbroken, tmp_path_factory) -> Path:
    """A run that was killed as the state of its second step was in place, with a line too many in its log."""
    where = tmp_path_factory.mktemp("begun")
    at = [k for k, name in enumerate(unbroken[1]) if name == "run/state/last.pt"][1]
    assert forks.run(where, BEGIN, at, "renamed").status == -9
    with open(where / "run" / "log.jsonl", "a") as log:
        log.write('{"step": 3, "loss": 5.0}\n')
    return where


def files(where: Path) -> dict[str, object]:
    """The bytes of every file of a run. Of its log, the lines without their speed; of its state, every number and the
    bytes of every tensor: how often pickle writes the same text depends on where it lies in memory.
    """
    found: dict[str, object] = {}
    for path in sorted((where / "run").rglob("*")):
        if path.is_file():
            found[str(path.relative_to(where))] = path.read_bytes()
    lines = [json.loads(line) for line in found["run/log.jsonl"].splitlines()]
    for line in lines:
        assert line.pop("images_per_second") > 0
    state = plain(torch.load(where / "run" / "state" / "last.pt", weights_only=True))
    return found | {"run/log.jsonl": lines, "run/state/last.pt": state}


def plain(value: object) -> object:
    """A state with tensors as their type, shape and bytes."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return [(name, plain(part)) for name, part in value.items()]
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def killed(forks: Forks, where: Path, args: list[str], event: int, moment: str, unbroken) -> None:
    """Kill a run at a moment, continue it, and compare."""
    ended = forks.run(where, args, event, moment)
    assert ended.status == -9, ended.output
    assert len(ended.written) == event + (moment == "renamed")
    assert sum(map(is_part, where.rglob("*"))) == (moment != "renamed")
    mine = where / "run" / "samples" / ".mine.part-1.txt"
    mine.parent.mkdir(exist_ok=True, parents=True)
    mine.write_text("a user's")
    again = forks.run(where, RESUME if (where / "run" / "train.json").exists() else BEGIN)
    assert again.status == 0, again.output
    assert mine.read_text() == "a user's"
    mine.unlink()
    ours, theirs = files(where), unbroken[0]
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if ours[name] != theirs[name]] == []


def moments(written: list[str], only: str | None = None) -> list[tuple[int, str]]:
    """Every moment of every renaming; or one moment a file, at its first renaming, in turns."""
    if only is None:
        return [(k, moment) for k in range(len(written)) for moment in MOMENTS]
    return [(written.index(name), MOMENTS[k % 3]) for k, name in enumerate(dict.fromkeys(written))]


def test_killed_while_writing_each_file(forks: Forks, tmp_path: Path, unbroken):
    for event, moment in moments(unbroken[1], "one a file"):
        where = tmp_path / f"{event}-{moment}"
        where.mkdir()
        killed(forks, where, BEGIN, event, moment, unbroken)


def test_killed_while_the_log_is_taken_back(forks: Forks, tmp_path: Path, unbroken, begun: Path):
    """A resume renames the log first: that is where a second kill strikes."""
    where = shutil.copytree(begun, tmp_path / "again")
    killed(forks, where, RESUME, 0, "whole", unbroken)


def test_killed_between_the_last_state_and_its_model(forks: Forks, tmp_path: Path, unbroken):
    """No step is left to a resume, which writes the model all the same."""
    at = max(k for k, name in enumerate(unbroken[1]) if name == "run/state/last.pt")
    killed(forks, tmp_path, BEGIN, at, "renamed", unbroken)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_every_moment_of_every_renaming(forks: Forks, tmp_path: Path, unbroken, begun: Path):
    every = moments(unbroken[1])
    assert len(every) >= 60
    for event, moment in every:
        where = tmp_path / f"{event}-{moment}"
        where.mkdir()
        killed(forks, where, BEGIN, event, moment, unbroken)
        shutil.rmtree(where)
    written = forks.run(shutil.copytree(begun, tmp_path / "whole"), RESUME).written
    assert written[:2] == ["run/log.jsonl", "run/train.json"]
    for event, moment in moments(written):
        where = shutil.copytree(begun, tmp_path / f"again-{event}-{moment}")
        killed(forks, where, RESUME, event, moment, unbroken)
        shutil.rmtree(where)
