"""The tabs that go through the latent space: what they show are the bytes that the lines below them give."""

from pathlib import Path

from support.browser import executed, fill, lines, linked, pngs, typed

import ddim
from ddim.images.sources import find
from ddim.studio.render import png


def opened(page, name: str):
    page.get_by_role("tab", name=name, exact=True).click()
    return page.locator(f"#{name.lower()}")


def sampled(page, n: int = 4) -> None:
    """Sample some images, so that the trays hold them."""
    tab = page.locator("#sample")
    fill(tab.get_by_label("Seed"), "5")
    fill(tab.get_by_label("number input for Images"), str(n))
    fill(tab.get_by_label("Steps"), "2")
    tab.get_by_role("button", name="Sample", exact=True).click()
    tab.get_by_text("times as long").wait_for()


def files(tmp_path: Path, *numbers: int) -> list[Path]:
    """Digits as PNG files, in the folders where lines are typed and executed."""
    digits, found = find("digits", 8, 1), []
    for where in ("typed", "executed"):
        (tmp_path / where).mkdir()
        found = [ddim.plots.save(ddim.plots.to_pil(digits[k]), tmp_path / where / f"digit {k}.png") for k in numbers]
    return found


def test_the_way_between_two_sampled_images(page, tmp_path: Path):
    sampled(page)
    tab = opened(page, "Interpolate")
    for k in (3, 1):
        tab.get_by_role("button", name=f"image {k}").click()
        tab.get_by_role("button", name=f"image {k}", pressed=True).wait_for()
    tab.get_by_text("2 images chosen").wait_for()
    fill(tab.get_by_label("Frames"), "3")
    fill(tab.get_by_label("Steps"), "2")
    tab.get_by_role("button", name="Interpolate").click()
    tab.get_by_text("Move the slider").wait_for()
    (shown,) = pngs(tab.locator("#way img"))
    moving = linked(tab, "Download the animation")
    first = pngs(tab.locator("#still img"))
    fill(tab.get_by_label("number input for Across"), "2")
    tab.get_by_text("2 of 2").wait_for()
    assert pngs(tab.locator("#still img")) != first
    typed(lines(tab, "command"), tmp_path / "typed")
    executed(lines(tab, "python"), tmp_path / "executed")
    for where in ("typed", "executed"):
        assert (tmp_path / where / "interpolate/interpolate.png").read_bytes() == shown
        assert (tmp_path / where / "interpolate/interpolate.gif").read_bytes() == moving


def test_the_way_between_four_uploaded_images(fresh, tmp_path: Path):
    tab = opened(fresh, "Interpolate")
    tab.locator("input[type=file]").set_input_files(files(tmp_path, 0, 1, 2, 3))
    tab.get_by_text("4 images chosen").wait_for()
    fill(tab.get_by_label("Frames"), "2")
    fill(tab.get_by_label("Steps"), "3")
    tab.get_by_role("button", name="Interpolate").click()
    tab.get_by_text("Move the slider").wait_for()
    (shown,) = pngs(tab.locator("#way img"))
    typed(lines(tab, "command"), tmp_path / "typed")
    executed(lines(tab, "python"), tmp_path / "executed")
    for where in ("typed", "executed"):
        assert (tmp_path / where / "interpolate/interpolate.png").read_bytes() == shown


def test_an_image_is_encoded_and_comes_back(page, tmp_path: Path):
    tab = opened(page, "Encode")
    tab.locator("input[type=file]").set_input_files(files(tmp_path, 7))
    tab.get_by_role("button", pressed=True).wait_for()
    fill(tab.get_by_label("Steps"), "2 3")
    tab.get_by_role("button", name="Encode", exact=True).click()
    tab.get_by_text("should be has mean 0").wait_for()
    shown = pngs(tab.locator("#round-trips img"))
    assert len(shown) == 16  # image, latent, back, error: twice two rows
    typed(lines(tab, "command"), tmp_path / "typed")
    executed(lines(tab, "python"), tmp_path / "executed")
    for k, name in enumerate(("ddim-2", "ddim-3", "exact-2", "exact-3")):
        assert (tmp_path / "typed" / name / "00000.png").read_bytes() == shown[4 * k + 2]
        assert (tmp_path / "executed" / f"{name}.png").read_bytes() == shown[4 * k + 2]
    assert shown[8] == shown[10] == (tmp_path / "typed" / "digit 7.png").read_bytes() != shown[2]


def test_an_image_of_the_data_can_be_downloaded_for_the_lines(fresh):
    tab = opened(fresh, "Encode")
    fill(tab.get_by_label("number in the data"), "12")
    tab.get_by_role("button", name="From data").click()
    tab.get_by_role("button", pressed=True).wait_for()
    fill(tab.get_by_label("Steps"), "2")
    tab.get_by_role("button", name="Encode", exact=True).click()
    want = ddim.plots.to_pil(find("digits", 8, 1)[12])
    assert linked(tab, "Download digits-12.png") == png(want)
    assert "ddim encode digits digits-12.png" in lines(tab, "command")


def test_exploring_goes_on_and_back(page, tmp_path: Path):
    tab = opened(page, "Explore")
    fill(tab.get_by_label("Seed"), "3")
    fill(tab.get_by_label("Steps"), "2")
    tab.get_by_role("button", name="Begin").click()
    tab.get_by_role("button", name="image 4").click()
    tab.get_by_text("Choice 1").wait_for()
    first = pngs(tab.locator("#neighbours img"))
    fill(tab.get_by_label("number input for Distance"), "0.6")
    tab.get_by_role("button", name="image 8").click()
    tab.get_by_text("Choice 2").wait_for()
    shown = pngs(tab.locator("#neighbours img"))
    assert len(pngs(tab.locator("#chosen img"))) == 2
    typed(lines(tab, "command"), tmp_path / "typed")
    assert [path.read_bytes() for path in sorted((tmp_path / "typed/nearby").glob("*.png"))] == shown
    executed(lines(tab, "python"), tmp_path / "executed")
    assert (tmp_path / "executed/sheet.png").read_bytes() == (tmp_path / "typed/nearby-sheet.png").read_bytes()
    tab.get_by_role("button", name="Back").click()
    tab.get_by_text("go further back").wait_for()
    assert pngs(tab.locator("#neighbours img")) == first


def test_a_bad_upload_gets_its_sentence(fresh, tmp_path: Path):
    tab = opened(fresh, "Encode")
    (tmp_path / "cat.png").write_bytes(b"no picture")
    tab.locator("input[type=file]").set_input_files(tmp_path / "cat.png")
    alert = tab.get_by_role("alert")
    alert.wait_for()
    assert alert.inner_text() == "cat.png: not a readable image (cannot be identified)"
    tab.get_by_role("button", name="Encode", exact=True).click()
    tab.get_by_text("choose an image first").wait_for()
