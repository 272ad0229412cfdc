"""Windows and macOS, emulated, for no such machine is here: what their systems lack or refuse, no verb asks for."""

import errno
import os
import signal
import stat
import sys
from pathlib import Path

import pytest
from support.command_line import in_process

import ddim
from ddim.system.files import held, replacing

WITHOUT = (
    "link",
    "getuid",
    "geteuid",
    "killpg",
    "getpgid",
    "setpgid",
    "setsid",
    "chown",
    "mkfifo",
    "sched_getaffinity",
)
NO_SIGNALS = ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE")


def in_use(path: str | Path) -> bool:
    """Whether this process has a file open, or mapped into its memory."""
    real = os.path.realpath(path)
    mapped = any(line.rstrip().endswith(real) for line in Path("/proc/self/maps").read_text().splitlines())
    return mapped or any(os.path.realpath(f"/proc/self/fd/{fd}") == real for fd in os.listdir("/proc/self/fd"))


@pytest.fixture
def windows(tmp_path: Path, monkeypatch):
    """No fcntl, no POSIX calls or signals; folders cannot be opened, nor files synced that are open for reading only;
    what is open or mapped is neither replaced nor removed.
    """
    if not Path("/proc/self/maps").exists():
        pytest.skip("what is open is told by /proc")
    import fcntl

    opened, fsync, replace, unlink = os.open, os.fsync, os.replace, os.unlink

    def refuse(path: str | Path) -> None:
        if os.path.isfile(path) and in_use(path):
            raise PermissionError(errno.EACCES, "used by another process", str(path))

    def of_a_file(path, flags: int, *more: int, **how) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, *more, **how)

    def of_a_writer(fd: int) -> None:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY or stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        fsync(fd)

    def of_unused(source, target, **how) -> None:
        refuse(source), refuse(target)
        replace(source, target, **how)

    def unused(path, **how) -> None:
        refuse(path)
        unlink(path, **how)

    monkeypatch.setenv("USERNAME", "me")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    for name, function in {"open": of_a_file, "fsync": of_a_writer, "replace": of_unused, "unlink": unused}.items():
        monkeypatch.setattr(os, name, function)
    for module, names in ((os, WITHOUT), (signal, NO_SIGNALS)):
        for name in names:
            monkeypatch.delattr(module, name, raising=False)


def test_the_emulation_refuses(windows, tmp_path: Path):
    (tmp_path / "a").write_text("a")
    with pytest.raises(PermissionError):
        os.open(tmp_path, os.O_RDONLY)
    with open(tmp_path / "a") as file:
        for refused in (lambda: os.fsync(file.fileno()), lambda: os.replace(tmp_path / "a", tmp_path / "b")):
            with pytest.raises(OSError, match=r"Bad file|used by"):
                refused()
        with pytest.raises(PermissionError):
            (tmp_path / "a").unlink()
    (tmp_path / "a").unlink()


def test_files_are_whole_and_folders_held_as_far_as_they_can_be(windows, tmp_path: Path):
    with replacing(tmp_path / "a") as part:
        part.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"
    with held(tmp_path), held(tmp_path):  # without locks, nobody is refused
        pass


SMALL = ("--batch-size", 4, "--save-every", 1, "--log-every", 1, "--sample-every", 2)
VERBS = [
    ("train", "digits", "--steps", 2, "--out", "run", *SMALL),
    ("train", "digits", "--resume", "--steps", 3, "--out", "run"),
    ("sample", "run", "--n", 3, "--steps", 2, "--out", "a"),
    ("sample", "run", "--n", 5, "--steps", 2, "--out", "a"),
    ("sample", "run", "--n", 3, "--steps", 2, "--format", "npz", "--out", "b"),
    ("sample", "run", "--n", 3, "--steps", 2, "--format", "npz", "--out", "b"),
    ("data", "a", "--size", 8),
    ("encode", "run", "a", "--steps", 2, "--out", "z.safetensors"),
    ("encode", "run", "a", "--steps", 2, "--out", "z.safetensors"),
    ("decode", "run", "z.safetensors", "--out", "c"),
    ("interpolate", "run", "--frames", 2, "--steps", 2, "--out", "d"),
    ("evaluate", "run", "--n", 3, "--steps", 2, "--eta", 0, "--out", "e"),
    ("evaluate", "run", "--n", 3, "--steps", 2, "--eta", 0, "--out", "e"),
    ("convert", "run", "copy"),
    ("info", "copy"),
]


def test_every_verb_works_there_twice_in_one_place(windows, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    for args in VERBS:
        result = in_process(tmp_path, *args)
        assert result.returncode == 0, (args, result.stderr)
    assert len(list((tmp_path / "a").glob("*.png"))) == 5
    assert ddim.load(tmp_path / "copy", "cpu").fingerprint == ddim.load(tmp_path / "run", "cpu").fingerprint
