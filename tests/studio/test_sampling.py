"""The tab that samples, as a person uses it."""

from pathlib import Path

from support.browser import executed, fill, lines, pngs, typed

from ddim.studio.render import png


def start(page, n: int = 4, steps: int = 3, **fields: str):
    """Sample, and return the tab when the images are there."""
    tab = page.locator("#sample")
    fill(tab.get_by_label("Seed"), "5")
    fill(tab.get_by_label("number input for Images"), str(n))
    fill(tab.get_by_label("Steps"), str(steps))
    for name, value in fields.items():
        fill(tab.get_by_label(name), value)
    tab.get_by_role("button", name="Sample", exact=True).click()
    return tab


def test_the_images_are_those_of_the_lines_below_byte_for_byte(page, tmp_path: Path):
    tab = start(page)
    tab.get_by_role("button", name="image 3").click()
    tab.get_by_text("nearest training images, at").wait_for()
    shown = pngs(tab.locator("#images img"))
    assert len(shown) == 4
    (said,) = typed(lines(tab, "command"), tmp_path / "typed")
    folder = tmp_path / "typed" / said.splitlines()[1].split(": ")[1]
    assert [path.read_bytes() for path in sorted(folder.glob("*.png"))] == shown
    executed(lines(tab, "python"), tmp_path / "executed")
    assert (tmp_path / "executed" / "00003.png").read_bytes() == shown[3] == pngs(tab.locator("#beside img"))[0]


def test_the_rows_of_a_comparison(page, tmp_path: Path):
    tab = page.locator("#sample")
    fill(tab.get_by_label("Steps").first, "2")
    tab.get_by_role("button", name="Compare, from the same noise").click()
    tab.get_by_label("solvers").check()
    page.wait_for_function("document.querySelector('#compare textarea, #compare input[type=text]').value[0] == 'd'")
    fill(tab.get_by_label("Values"), "ddim heun")
    tab.get_by_role("button", name="Compare", exact=True).click()
    tab.get_by_text("Each column starts from the same noise.").wait_for()
    shown, part = pngs(tab.locator("#compared img")), tab.locator("#compare")
    typed(lines(part, "command"), tmp_path / "typed")
    folders = [sorted((tmp_path / "typed/compare" / str(k)).glob("*.png")) for k in range(2)]
    assert [path.read_bytes() for folder in folders for path in folder] == shown
    found = executed(lines(part, "python"), tmp_path / "executed")
    assert [png(image) for row in found["rows"] for image in row] == shown
    assert len(shown) == 16
