"""The tab that edits an image: a painted mask, strengths, another class; by pointer and by keys."""

from pathlib import Path

from support.browser import executed, fill, lines, linked, pngs, typed

import ddim
from ddim.images.pixels import to_uint8
from ddim.images.sources import find


def opened(page, number: int):
    """The tab with an image of the data on the easel."""
    page.get_by_role("tab", name="Edit", exact=True).click()
    tab = page.locator("#edit")
    tab.get_by_role("tab", name="Inpaint").click()
    there = tab.locator(".tray button").count()
    fill(tab.get_by_label("number in the data"), str(number))
    tab.get_by_role("button", name="From data").click()
    tab.locator(".tray button").nth(there).wait_for()
    tab.locator("canvas").wait_for()
    return tab


def enter(tab, label: str, value: str) -> None:
    """Fill a field of the inner tab that is shown; several have fields of one name."""
    fill(tab.get_by_label(label).locator("visible=true"), value)


def files(tab, tmp_path: Path, *names: str) -> None:
    """Download what the lines need to where they are typed and executed."""
    for where in ("typed", "executed"):
        (tmp_path / where).mkdir()
        for name in names:
            (tmp_path / where / name).write_bytes(linked(tab, f"Download {name}"))


def same(tab, tmp_path: Path, folder: str, shown: list[bytes], *names: str) -> None:
    """Assert that the command and the program give the bytes that are shown."""
    files(tab, tmp_path, *names)
    typed(lines(tab, "command"), tmp_path / "typed")
    executed(lines(tab, "python"), tmp_path / "executed")
    for k, content in enumerate(shown):
        assert (tmp_path / "typed" / folder / f"{k:05d}.png").read_bytes() == content
        assert (tmp_path / "executed" / f"{k:05d}.png").read_bytes() == content


def test_what_is_painted_is_made_anew_and_the_rest_returns(page, tmp_path: Path):
    tab = opened(page, 3)
    box = tab.locator("canvas").bounding_box()
    cell = box["width"] / 8
    page.mouse.move(box["x"] + 1.5 * cell, box["y"] + 4.5 * cell)
    page.mouse.down()
    page.mouse.move(box["x"] + 5.5 * cell, box["y"] + 4.5 * cell)  # as a fast hand: one move
    page.mouse.up()
    tab.locator("canvas").press("ArrowDown")  # by the keys: the second pixel of the second row
    tab.locator("canvas").press("ArrowRight")
    tab.get_by_text("5 pixels are painted.").wait_for()
    tab.locator("canvas").press("Space")
    tab.get_by_text("6 pixels are painted.").wait_for()
    enter(tab, "Answers", "2")
    enter(tab, "Steps", "3")
    tab.get_by_role("button", name="Inpaint", exact=True).click()
    tab.get_by_text("What was not painted returns exactly.").wait_for()
    _, mask, *shown = pngs(tab.locator("#edited img"))
    same(tab, tmp_path, "inpainted", shown, "digits-3.png", "mask.png")
    assert (tmp_path / "typed/mask.png").read_bytes() == mask
    painted = ddim.plots.read(tmp_path / "typed/mask.png")[0] > 0
    assert painted.nonzero().tolist() == [[1, 1], *([4, k] for k in range(1, 6))]
    original, answers = find("digits", 8, 1)[3], executed(lines(tab, "python"), tmp_path / "executed")["made"]
    for answer in to_uint8(answers):
        assert (answer == original)[:, ~painted].all()
        assert (answer != original)[:, painted].any()


def test_variations_are_rows_of_strengths(page, tmp_path: Path):
    tab = opened(page, 5)
    tab.get_by_role("tab", name="Vary").click()
    tab.get_by_label("Strengths").wait_for()
    enter(tab, "Strengths", "0.3 1")
    enter(tab, "Answers", "2")
    enter(tab, "Steps", "3")
    tab.get_by_role("button", name="Vary", exact=True).click()
    tab.get_by_text("A row a strength").wait_for()
    original, *shown = pngs(tab.locator("#edited img"))
    assert len(set(shown)) == 4
    same(tab, tmp_path, "varied", shown, "digits-5.png")
    assert (tmp_path / "typed/digits-5.png").read_bytes() == original


def test_nothing_painted_gets_its_sentence(page):
    tab = opened(page, 6)
    tab.get_by_role("button", name="Inpaint", exact=True).click()
    tab.get_by_text("paint on the image what is to be made anew").wait_for()
    tab.get_by_role("tab", name="Class").click()
    tab.get_by_role("button", name="Change the class").click()
    tab.get_by_text("this model knows no classes").wait_for()


def test_another_class_of_a_model_that_knows_some(page, tmp_path: Path, classes: str):
    page.get_by_label("Model").fill(classes)
    page.get_by_label("Model").press("Enter")
    page.get_by_text("3 classes").wait_for()
    page.get_by_role("tab", name="Sample", exact=True).click()
    page.locator("#sample").get_by_label("Guidance").first.wait_for()
    tab = opened(page, 9)
    tab.get_by_role("tab", name="Class").click()
    for label, name in (("It is of class", "cat"), ("Make it of class", "ship")):
        tab.get_by_label(label).click()
        tab.get_by_role("option", name=name, exact=True).click()
        tab.get_by_role("option").first.wait_for(state="detached")  # the list has closed
    enter(tab, "Steps", "2")
    tab.get_by_role("button", name="Change the class").click()
    tab.get_by_text("decoded with the other.").wait_for()
    _, *shown = pngs(tab.locator("#edited img"))
    assert "--source cat --label ship --guidance 2" in lines(tab, "command")
    same(tab, tmp_path, "varied", shown, "digits-9.png")
