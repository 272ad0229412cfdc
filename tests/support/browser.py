"""The studio as a person uses it: a server in a thread, and Debian's Chromium without a window."""

import base64
import os
import shlex
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.command_line import in_process

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
WAIT = 60_000  # milliseconds for what a loaded machine may take


@contextmanager
def served(studio) -> Iterator[str]:
    """The address of a `Studio` that is served by a thread of this process."""
    import uvicorn

    from ddim.studio import application

    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(studio.out / "uploads")
    server = uvicorn.Server(uvicorn.Config(application(studio), log_level="error", timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(10)
            os.environ.pop("GRADIO_TEMP_DIR")
            os.environ |= {} if before is None else {"GRADIO_TEMP_DIR": before}


@contextmanager
def browser() -> Iterator:
    """Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        opened = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


def fill(field, value: str) -> None:
    """Type into a field until it keeps it: one that has just come into the page is set to its first value again."""
    for _ in range(50):
        field.fill(value)
        field.page.wait_for_timeout(100)
        if field.input_value() == value:
            return
    raise AssertionError(f"the field keeps {field.input_value()!r}, not {value!r}")


def pngs(images) -> list[bytes]:
    """The bytes of the images that a locator finds, as they are in the page."""
    sources = images.evaluate_all("images => images.map(image => image.src)")
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    return [base64.b64decode(source.partition(",")[2]) for source in sources]


def lines(tab, kind: str) -> str:
    """What the page says to type: kind is "command" or "python"."""
    return tab.locator(f"pre.{kind}").inner_text(timeout=WAIT)


def linked(tab, name: str) -> bytes:
    """The bytes behind a link to download."""
    return base64.b64decode(tab.get_by_role("link", name=name).get_attribute("href").partition(",")[2])


def typed(command: str, folder: Path) -> list[str]:
    """Run every `ddim …` line of a shown command in a folder; returns what they printed."""
    folder.mkdir(exist_ok=True)
    said = []
    for line in command.splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "ddim", line
        result = in_process(folder, *words[1:])
        assert result.returncode == 0, result.stderr
        said.append(result.stdout)
    return said


def executed(program: str, folder: Path) -> dict:
    """Run the shown lines of Python in a folder; returns their variables."""
    folder.mkdir(exist_ok=True)
    before, found = Path.cwd(), {}
    os.chdir(folder)
    try:
        exec(program, found)
    finally:
        os.chdir(before)
    return found
