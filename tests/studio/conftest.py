"""One server and one browser for the tests of a process, and a page for those of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import CHROMIUM, WAIT, browser, served
from support.models import labelled_model

import ddim


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: apt-get install chromium")
    pytest.importorskip("playwright")
    with browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """The folder of the server."""
    return tmp_path_factory.mktemp("studio")


@pytest.fixture(scope="session")
def classes(place: Path) -> str:
    """A model of the studio that knows classes."""
    ddim.save(labelled_model(), place / "classes")
    return str(place / "classes")


@pytest.fixture(scope="session")
def address(place: Path, classes: str) -> Iterator[str]:
    from ddim.studio import Studio

    with served(Studio(("digits", classes), place / "out", "digits", device="cpu")) as url:
        yield url


@pytest.fixture(scope="module")
def shared(chromium, address: str) -> Iterator:
    """A page of the studio, in a browser session of its own. Nothing may fail in it, or be asked of elsewhere."""
    session = chromium.new_context(viewport={"width": 1400, "height": 900})
    opened, wrong = session.new_page(), []
    opened.set_default_timeout(WAIT)
    opened.on("pageerror", lambda error: complain(str(error), wrong))
    opened.on("console", lambda message: complain(message.text, wrong) if message.type == "error" else None)
    opened.on("request", lambda request: None if at_home(request.url, address) else wrong.append(request.url))
    opened.goto(address)
    ready(opened)
    yield opened
    session.close()
    assert not wrong, wrong


@pytest.fixture
def page(shared, request):
    """The page as the test before left it: loading it takes seconds. Where a test fails, what it shows is printed."""
    failed = request.session.testsfailed
    yield shared
    if request.session.testsfailed > failed:
        print(shared.locator("body").inner_text())


@pytest.fixture
def fresh(shared, address: str):
    """The page, loaded again."""
    shared.goto(address)
    ready(shared)
    return shared


def complain(text: str, wrong: list[str]) -> None:
    """Note an error of a page, but for what Gradio says when it is left in the middle of its work."""
    if not any(words in text for words in ("signal is aborted", "Connection errored out")):
        wrong.append(text)


def ready(page) -> None:
    """Wait until the page answers: what it says of the model is the first thing that it asks for."""
    page.get_by_text("M parameters").wait_for()


def at_home(url: str, address: str) -> bool:
    """Whether a request stays on this machine."""
    return url.startswith((address, "data:", "blob:"))
