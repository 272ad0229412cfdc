"""Files that are whole or absent, and temporary files: only our own are recognised, and only those are removed."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ddim.errors import InputError
from ddim.system.files import clean, clean_abandoned, held, is_part, meant, replacing

OURS = [".ddim-part-1-0123abcd-sample.json", ".ddim-part-31337-ffffffff-a b\nc.png"]
USERS = [
    ".ddim-part-1-sample.json",
    ".ddim-part-1-0123ABCD-sample.json",
    ".ddim-part-1-0123abcd-",
    ".ddim-part-x-0123abcd-sample.json",
    ".ddim-part-1-0123abcde-sample.json",
    ".ddim-part-notes",
    "ddim-part-1-0123abcd-sample.json",
    ".sample.json.part",
    ".notes.part-2.txt",
    ".x.part",
]


def test_only_our_own_temporary_files_are_removed(tmp_path: Path):
    """By their exact names, at any depth; a user's hidden files, and a folder of such a name, stay with their bytes."""
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    for where in (tmp_path, below):
        for name in OURS + USERS:
            (where / name).write_text(name)
    (tmp_path / ".ddim-part-2-0123abcd-folder").mkdir()
    (tmp_path / ".ddim-part-2-0123abcd-folder" / "kept").write_text("kept")
    clean(tmp_path)
    for where in (tmp_path, below):
        assert sorted(path.name for path in where.iterdir() if path.is_file()) == sorted(USERS)
        assert all((where / name).read_text() == name for name in USERS)
    assert (tmp_path / ".ddim-part-2-0123abcd-folder" / "kept").read_text() == "kept"


def test_only_what_an_ended_process_left_of_a_file_is_removed(tmp_path: Path):
    """Of this very file alone; a process that still writes it keeps its own."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, other, writing = (
        tmp_path / f".ddim-part-{process}-0123abcd-{name}"
        for process, name in ((ended.pid, "z-1.bin"), (ended.pid, "1.bin"), (os.getpid(), "z-1.bin"))
    )
    for path in (left, other, writing):
        path.write_text("")
    clean_abandoned(tmp_path / "z-1.bin")
    assert [path.exists() for path in (left, other, writing)] == [False, True, True]


def test_links_are_not_followed_when_cleaning(tmp_path: Path):
    """What another folder holds belongs to whoever holds that one."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").mkdir()
    part = tmp_path / "theirs" / OURS[0]
    part.write_text("being written")
    (tmp_path / "ours" / "link").symlink_to(tmp_path / "theirs")
    clean(tmp_path / "ours")
    assert part.read_text() == "being written"


def test_the_name_of_every_temporary_file_is_recognised(tmp_path: Path):
    """It is hidden, lies beside its file, ends as that does, and no two of one process are the same."""
    seen = set()
    for name in ("sample.json", "weights.safetensors", "no suffix", "two.dots.png"):
        for _ in range(2):
            with replacing(tmp_path / name) as part:
                assert re.fullmatch(rf"\.ddim-part-{os.getpid()}-[0-9a-f]{{8}}-{re.escape(name)}", part.name)
                assert is_part(part)
                assert part.parent == tmp_path
                seen.add(part.name)
                part.write_text(name)
        assert (tmp_path / name).read_text() == name
        assert not is_part(tmp_path / name)
    assert len(seen) == 8
    assert len(list(tmp_path.iterdir())) == 4


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path):
    """As on two machines that share a disk, where the numbers of their processes agree."""
    with replacing(tmp_path / "f") as first, replacing(tmp_path / "f") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "f").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def failing(path: Path, error: BaseException) -> None:
    with replacing(path) as part:
        part.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: BaseException):
    path, full = tmp_path / "f", "no room to write it (No space left on device); free some space and try again"
    path.write_text("before")
    with pytest.raises(InputError if isinstance(error, OSError) else type(error)) as told:
        failing(path, error)
    assert str(told.value) == (f"{path}: {full}" if isinstance(error, OSError) else str(error))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("f", "before")]


def test_a_folder_is_let_go_of_by_a_killed_process(tmp_path: Path):
    code = (
        "import sys, pathlib, ddim.system.files as files\n"
        "with files.held(pathlib.Path(sys.argv[1])): print(1, flush=True); input()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"1\n"
    with pytest.raises(InputError, match="another process works in it"), held(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with held(tmp_path):
        pass


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("runs/pest", "; did you mean runs/pets?"),
        ("rums/pets", "; did you mean runs/pets?"),
        ("rums/dogs", ""),  # is not there either
        ("runs/cifar", ""),
        ("my-imagse", "; did you mean my-images?"),
        ("my-images/a.png", ""),
        ("my-images", ""),  # is there
        ("a.png/b", ""),
        ("../pets", ""),
    ],
)
def test_what_a_path_that_is_not_there_was_meant_for(given: str, said: str, tmp_path: Path, monkeypatch):
    for folder in ("runs/pets", "my-images"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    assert meant(Path(given)) == said
    assert meant(tmp_path / given) == said.replace("mean ", f"mean {tmp_path}/")


def test_a_ctrl_c_while_torch_writes_is_a_ctrl_c(tmp_path: Path):
    """torch.save turns what interrupts it into an error of its own, which looks like a bug."""
    import torch

    class Interrupted:
        def __init__(self, file):
            self.file, self.left = file, 3

        def write(self, data) -> int:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            return self.file.write(data)

        def flush(self) -> None:
            self.file.flush()

    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "x.pt") as part, open(part, "wb") as file:
        torch.save({"a": torch.zeros(100_000), "b": torch.zeros(100_000)}, Interrupted(file))
    assert not list(tmp_path.iterdir())
