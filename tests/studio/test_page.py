"""The page itself: stop, reload, several people at once, and nothing from elsewhere."""

import time

import pytest
from support.browser import fill, pngs

import ddim
from ddim.studio.render import png


def long_walk(page):
    """Begin DDPM's thousand steps, and wait until they go on."""
    tab = page.locator("#sample")
    assert not tab.get_by_text("measuring").count()  # a second click would not count
    fill(tab.get_by_label("number input for Images"), "64")
    fill(tab.get_by_label("Steps").first, "1000")
    fill(tab.get_by_label("number input for η"), "1")
    tab.get_by_role("button", name="Sample", exact=True).click()
    tab.get_by_text("what the network expects").wait_for()
    return tab


def stop(tab) -> None:
    tab.get_by_role("button", name="Stop").first.click()
    tab.get_by_text("Stopped.").wait_for()


def sample(tab, text: str) -> None:
    """Click on Sample, and wait until the page says `text`."""
    tab.get_by_role("button", name="Sample", exact=True).click()
    tab.get_by_text(text).wait_for()


def evaluations(monkeypatch) -> list[float]:
    """When the network is called, from now on. It takes its time, so that a long walk does not end by itself before a
    busy machine has done what the test does meanwhile."""
    from ddim.networks.unet import UNet

    calls, forward = [], UNet.forward

    def counted(self, *args):
        calls.append(time.monotonic())
        time.sleep(0.1)
        return forward(self, *args)

    monkeypatch.setattr(UNet, "forward", counted)
    return calls


def rests(calls: list[float], within: float = 20.0) -> bool:
    """Whether the network comes to rest: is not called for two seconds."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if time.monotonic() - calls[-1] > 2:
            return True
        time.sleep(0.1)
    return False


def test_stop_ends_the_work_and_the_next_one_begins(page, monkeypatch):
    calls, tab = evaluations(monkeypatch), long_walk(page)
    stop(tab)
    assert rests(calls)
    assert len(calls) < 1000
    fill(tab.get_by_label("Steps").first, "2")
    sample(tab, "images, 2 steps, 2 evaluations")
    tab.get_by_text("times as long").wait_for()


@pytest.mark.parametrize("how", ["leaves", "reloads"])
def test_a_browser_that_leaves_stops_its_work(page, address: str, monkeypatch, how: str):
    calls, _ = evaluations(monkeypatch), long_walk(page)
    page.goto("about:blank") if how == "leaves" else page.reload()
    assert rests(calls)
    assert len(calls) < 1000
    page.goto(address)
    page.get_by_text("M parameters").wait_for()
    tab = page.locator("#sample")
    fill(tab.get_by_label("Steps").first, "2")
    sample(tab, "images, 2 steps, 2 evaluations")
    tab.get_by_text("times as long").wait_for()


def test_another_view_is_not_blocked_by_long_work(page, chromium, address: str, monkeypatch):
    _, tab = evaluations(monkeypatch), long_walk(page)
    other = chromium.new_page()
    other.set_default_timeout(20_000)
    other.goto(address)
    other.get_by_text("M parameters").wait_for()
    other.get_by_role("tab", name="Encode", exact=True).click()
    other.locator("#encode").get_by_role("button", name="From data").click()
    other.locator("#encode").get_by_role("button", name="image 0").wait_for()
    other.close()
    stop(tab)


def test_fields_out_of_range_get_their_sentence(page):
    tab = page.locator("#sample")
    fill(tab.get_by_label("Steps").first, "5000")
    sample(tab, "the number of steps is a whole number from 1 to 1000; got 5000")


def test_the_keyboard_is_enough(page):
    tab = page.locator("#sample")
    fill(tab.get_by_label("Steps").first, "2")
    tab.get_by_role("button", name="Sample", exact=True).press("Enter")
    tab.get_by_text("times as long").wait_for()  # a key pressed while images still come may be lost
    tab.get_by_role("button", name="image 2", exact=True).press("Enter")
    tab.get_by_role("heading", name="Image 2 of seed 0").wait_for()
    assert tab.get_by_role("button", name="image 2", exact=True).get_attribute("aria-pressed") == "true"


def test_the_page_allows_nothing_from_elsewhere(page, address: str):
    """The browser itself would refuse it; that nothing is asked for is asserted of every page (see conftest)."""
    policy = page.request.get(address).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    fonts = page.evaluate("[...document.fonts].map(font => font.family)")
    assert not [font for font in fonts if "Google" in font]


def test_a_phone_shows_the_whole_width(chromium, address: str):
    """Long lines scroll in their own boxes."""
    session = chromium.new_context(viewport={"width": 400, "height": 800}, color_scheme="dark")
    page = session.new_page()
    page.set_default_timeout(20_000)
    page.goto(address)
    page.get_by_text("M parameters").wait_for()
    tab = page.locator("#sample")
    fill(tab.get_by_label("Steps").first, "2")
    tab.get_by_role("button", name="Sample", exact=True).click()
    tab.get_by_text("times as long").wait_for()
    tab.get_by_role("button", name="Compare, from the same noise").click()
    tab.get_by_role("button", name="Compare", exact=True).click()
    tab.get_by_text("Each column starts").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 19, 22)"
    session.close()


def test_files_of_the_machine_are_not_served(page, address: str, place):
    (place / "out").mkdir(exist_ok=True)
    (place / "out" / "secret.txt").write_text("secret")
    for path in ("/etc/passwd", place / "out" / "secret.txt", __file__):
        assert page.request.get(f"{address}gradio_api/file={path}").status in (403, 404)


@pytest.mark.slow
def test_uploads_are_bounded(page, address: str):
    large = {"files": {"name": "large.png", "mimeType": "image/png", "buffer": bytes(33 * 2**20)}}
    assert page.request.post(f"{address}gradio_api/upload", multipart=large).status == 413


@pytest.mark.slow
def test_twenty_clients_at_once_all_get_theirs(chromium, address: str):
    """Each its own seed's images, byte for byte."""
    model = ddim.prepare(ddim.load("digits", "cpu"))
    sessions = [chromium.new_context() for _ in range(20)]
    pages = [session.new_page() for session in sessions]
    for page in pages:
        page.set_default_timeout(120_000)
        page.goto(address)
        page.get_by_text("M parameters").wait_for()
    for seed, page in enumerate(pages):
        tab = page.locator("#sample")
        fill(tab.get_by_label("Seed"), str(seed))
        fill(tab.get_by_label("Steps").first, "20")
    for page in pages:
        page.locator("#sample").get_by_role("button", name="Sample", exact=True).click()
    for seed, page in enumerate(pages):
        page.locator("#sample").get_by_text("16 images, 20 steps").wait_for()
        want = ddim.sample(model, n=16, seed=seed, steps=20)
        assert pngs(page.locator("#images img")) == [png(image) for image in want]
    for session in sessions:
        session.close()


def test_messages_come_through_one_stream_that_stays_open(fresh):
    """Where it closes after each event, a click at that moment is forgotten by the server."""
    asked = []
    fresh.on("request", lambda request: asked.append(request.url) if "queue/" in request.url else None)
    fresh.get_by_role("tab", name="Encode", exact=True).click()
    tab = fresh.locator("#encode")
    for number in "123":
        fill(tab.get_by_label("number in the data"), number)
        tab.get_by_role("button", name="From data").click()
        tab.get_by_role("button", name=f"image {int(number) - 1}", pressed=True).wait_for()
        fresh.wait_for_timeout(300)
    assert sum("queue/join" in url for url in asked) >= 4
    assert not any("queue/data" in url for url in asked)
