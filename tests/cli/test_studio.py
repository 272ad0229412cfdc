"""ddim studio on the command line: what cannot be served is refused in one line; Ctrl-C ends it, and leaves nothing."""

import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest
from support.command_line import command, environment, refused

from ddim.cli.commands import studio


def test_without_gradio_one_line_says_how_to_get_it(ddim_cli, monkeypatch):
    monkeypatch.setattr(studio, "find_spec", lambda name: None)
    refused(ddim_cli("studio"), "pip install 'gradio>=6.20'")


def test_what_cannot_be_served_is_refused(ddim_cli, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        refused(ddim_cli("studio", "--port", port), f"127.0.0.1:{port}: cannot be opened", "another --port")
    refused(ddim_cli("studio", "--port", 70000), "--port must be at most 65535")
    refused(ddim_cli("studio", "--port", 0, "--host", "nowhere.invalid"), "cannot be opened")
    refused(ddim_cli("studio", "nothing", "--port", 0), "nothing: no such model")
    refused(ddim_cli("studio", "digits", "--data", "nothing", "--port", 0), "nothing: no such folder or file")
    (tmp_path / "file").write_text("")
    refused(ddim_cli("studio", "--out", "file", "--port", 0), "file: is a file; name a folder")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "file"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_cleanly(tmp_path: Path, ending: int):
    words = command("studio", "digits", "--port", 0, "--device", "cpu")
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    (tmp_path / "tmp").mkdir()
    place = environment(tmp_path) | {"TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen(words, env=place, **how) as process:
        said = process.stdout.readline()
        assert said.startswith("the studio: http://127.0.0.1:"), process.stderr.read()
        address = said.split()[2]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert b"ddim studio" in opener.open(address, timeout=60).read()
        with opener.open(f"{address}/gradio_api/heartbeat/page", timeout=60):  # a page is still open
            process.send_signal(ending)
            _, err = process.communicate(timeout=60)
    assert process.returncode == (0 if ending == signal.SIGINT else 143), err
    assert err == ("" if ending == signal.SIGINT else "ddim: ended by SIGTERM\n")
    assert not list((tmp_path / "studio").rglob(".uploads*"))
    assert not list((tmp_path / "tmp").rglob("gradio*"))  # nothing is written elsewhere
