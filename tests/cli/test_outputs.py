"""Messages are one line each, on any output: another encoding, a full or closed one, a reader that has gone."""

import io
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from support.command_line import command, environment, refused

from ddim.cli import main as command_line
from ddim.cli.main import main
from ddim.system.messages import one_line, say
from ddim.system.progress import track


def shell(tmp_path: Path, line: str, **variables: str) -> subprocess.CompletedProcess:
    """Run a line of bash, in which DDIM is the command."""
    env = environment(tmp_path) | {"DDIM": f"{sys.executable} -m ddim"} | variables
    return subprocess.run(["bash", "-c", line], cwd=tmp_path, env=env, capture_output=True, timeout=600)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_an_output_of_any_encoding(tmp_path: Path, encoding: str):
    """What the encoding lacks is written as an escape: η is in none of them."""
    result = shell(tmp_path, "$DDIM --help && $DDIM evaluate --help", PYTHONIOENCODING=encoding)
    assert (result.returncode, result.stderr) == (0, b"")
    text = result.stdout.decode(encoding)
    assert "over steps and \\u03b7, as the paper" in text
    assert "each step adds, \\u03b7: the rows" in text
    assert ("usage: ddim VERB \\u2026" in text) == (encoding != "cp1252")  # cp1252 has an ellipsis


def test_an_error_on_an_output_of_any_encoding(tmp_path: Path):
    result = shell(tmp_path, "$DDIM info β", PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert result.returncode == 2
    assert result.stderr.startswith(b"ddim: \\u03b2: no such model")
    assert result.stderr.count(b"\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.parametrize("verb", ["--help", "sample --help"])
def test_a_full_output_is_one_line(tmp_path: Path, verb: str):
    result = shell(tmp_path, f"$DDIM {verb} > /dev/full")
    assert (result.returncode, result.stderr) == (2, b"ddim: output: No space left on device\n")


def test_a_full_place_for_errors_keeps_the_status(tmp_path: Path):
    result = shell(tmp_path, "$DDIM paint 2> /dev/full")
    assert (result.returncode, result.stdout) == (2, b"")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("$DDIM sample --help >&-", 0),
        ("$DDIM --help >&- 2>&-", 0),
        ("$DDIM paint >&- 2>&-", 2),
        ("$DDIM sample digits --n 1 --steps 1 --out made >&- 2>&-", 0),
    ],
)
def test_closed_outputs(tmp_path: Path, line: str, status: int):
    result = shell(tmp_path, line)
    assert (result.returncode, result.stdout, result.stderr) == (status, b"", b"")
    assert (tmp_path / "made" / "00000.png").exists() == ("made" in line)


def test_a_reader_that_has_gone_is_no_bug(tmp_path: Path):
    """The reader of the pipe is gone before the first line is written."""
    result = shell(tmp_path, "(sleep 0.5; $DDIM sample --help; echo $? > status) | true")
    assert result.stderr == b""
    assert (tmp_path / "status").read_text() == "1\n"


@pytest.mark.parametrize("columns", ["1", "0", "many"])
def test_a_terminal_of_any_width(ddim_cli, monkeypatch, columns: str):
    monkeypatch.setenv("COLUMNS", columns)
    result = ddim_cli("sample", "--help")
    assert result.returncode == 0
    assert "--spacing" in result.stdout
    refused(ddim_cli("sample", "digits", "--n", "0"), "--n must be at least 1; got 0")


def test_names_are_escaped(ddim_cli):
    result = ddim_cli("info", "a\nb\x1b[31m\u202e")
    refused(result, r"ddim: a\nb\x1b[31m\u202e: no such model")
    result = ddim_cli("data", "no\r\nwhere")
    refused(result, r"ddim: no\r\nwhere: no such folder")


@pytest.mark.parametrize("verb", [("info", "{long}"), ("data", "{long}"), ("sample", "digits", "--out", "{long}")])
def test_names_that_are_too_long(ddim_cli, verb: tuple[str, ...]):
    result = ddim_cli(*(word.format(long="a" * 5000) for word in verb))
    refused(result, "aaa", "ame too long")


def test_lines_are_lines(capsys):
    say("one\ntwo", "three\tfour", Path("five\x07"))
    assert capsys.readouterr().out == "one\\ntwo\nthree four\nfive\\x07\n"
    assert one_line("ᾱ × σ̂") == "ᾱ × σ̂"


def run_with(monkeypatch, verb) -> int:
    """Run `ddim info`, made of `verb` instead of its own."""
    module = type("Module", (), {"main": staticmethod(verb)})
    monkeypatch.setattr(command_line, "import_module", lambda name: module)
    return main(["info"])


def test_a_warning_of_a_library_is_one_line(monkeypatch, capsys):
    before = warnings.showwarning
    assert run_with(monkeypatch, lambda args: warnings.warn("strange\nimage", UserWarning, stacklevel=1)) == 0
    assert capsys.readouterr().err == "ddim: strange\\nimage\n"
    assert warnings.showwarning is before


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 2, "not enough memory: give a smaller --batch-size, or a smaller network"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000 bytes"), 2, "not enough"),
        (PermissionError(13, "Permission denied", "a\nb"), 2, r"a\nb: Permission denied"),
        (OSError(28, "No space left on device", "out/x.png"), 2, "out/x.png: No space left on device"),
    ],
)
def test_what_ends_a_verb_is_one_line(monkeypatch, capsys, error: BaseException, status: int, line: str):
    def verb(args):
        raise error

    assert run_with(monkeypatch, verb) == status
    assert capsys.readouterr().err.startswith(f"ddim: {line}")


def test_what_is_logged_is_one_line(monkeypatch, capsys):
    assert run_with(monkeypatch, lambda args: logging.getLogger("some.library").warning("odd\n%s", "file")) == 0
    assert capsys.readouterr().err == "ddim: odd\\nfile\n"


def test_a_bar_that_cannot_be_written_ends_nothing(monkeypatch):
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    assert list(track(range(3), "working", 3)) == [0, 1, 2]


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path):
    result = shell(tmp_path, "mkdir gone && cd gone && rmdir ../gone && $DDIM sample digits --n 1 --steps 1")
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr == b"ddim: the current folder is gone: change to another\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run_with(monkeypatch, lambda args: 1 / 0)


def test_a_signal_is_one_line(tmp_path: Path):
    work = command("sample", "digits", "--n", 100_000, "--steps", 1000, "--out", "out")
    with subprocess.Popen(work, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 240
        while not (tmp_path / "out").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGTERM)
        err = process.communicate(timeout=240)[1].decode()
    assert process.returncode == 143
    # On a slow machine a line before it says that this takes hours.
    said = [text for text in err.splitlines() if text.startswith("ddim: ") and "this will take about" not in text]
    assert said == ["ddim: ended by SIGTERM"]
    assert "Traceback" not in err


@pytest.mark.parametrize("verb", ["info", "sample", "data"])
def test_a_name_of_the_hub_without_the_hub_is_one_line(ddim_process, verb: str):
    offline = "not in the cache of the Hub, which HF_HUB_OFFLINE forbids to ask: unset it once, or"
    refused(ddim_process(verb, "some-one/some-thing"), "some-one/some-thing: no such folder", offline)
