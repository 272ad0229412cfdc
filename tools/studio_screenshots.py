"""Draw the screenshots of docs/studio.md: use every tab of the studio as a person would, in a browser without a window.

python tools/studio_screenshots.py docs/studio              # those of the page, with few colours
python tools/studio_screenshots.py /tmp/looks --every       # every tab at 1400 and 400 pixels, light and dark
"""

import argparse
import os
import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.browser import browser, fill, served

import ddim
from ddim.studio import Studio

LOOKS = {"wide": (1400, 900), "phone": (400, 800)}
SHOWN = [(tab, "wide", "light") for tab in ("sample", "interpolate", "encode", "edit", "explore", "train", "figures")]
SHOWN += [("edit", "phone", "light"), ("sample", "wide", "dark")]
COLOURS = 255  # of a screenshot in the docs


def sample(page, tab) -> None:
    tab.get_by_role("button", name="Sample", exact=True).click()
    tab.get_by_text("times as long").wait_for()
    tab.get_by_role("button", name="image 3", exact=True).click()
    tab.get_by_text("nearest training images, at").wait_for()


def interpolate(page, tab) -> None:
    for k in (3, 9, 2, 4):
        tab.get_by_role("button", name=f"image {k}", exact=True).click()
        tab.get_by_role("button", name=f"image {k}", exact=True, pressed=True).wait_for()
    fill(tab.get_by_label("Frames"), "7")
    tab.get_by_role("button", name="Interpolate").click()
    tab.get_by_text("Move the slider").wait_for()
    fill(tab.get_by_label("number input for Across"), "3")


def encode(page, tab) -> None:
    tab.get_by_role("button", name="From data").click()
    tab.get_by_role("button", pressed=True).wait_for()
    fill(tab.get_by_label("Steps"), "10 50 100")
    tab.get_by_role("button", name="Encode", exact=True).click()
    tab.get_by_text("should be has mean 0").wait_for()


def edit(page, tab) -> None:
    tab.get_by_role("button", name="image 3", exact=True).click()
    tab.get_by_role("button", name="image 3", exact=True, pressed=True).wait_for()
    tab.locator("canvas").wait_for()
    tab.locator("canvas").scroll_into_view_if_needed()
    box = tab.locator("canvas").bounding_box()
    for row in range(4, 8):
        y = box["y"] + (row + 0.5) * box["height"] / 8
        page.mouse.move(box["x"] + 0.2 * box["width"], y)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.8 * box["width"], y)
        page.mouse.up()
    tab.get_by_text("24 pixels are painted").wait_for()
    tab.get_by_role("button", name="Inpaint", exact=True).click()
    tab.get_by_text("What was not painted").wait_for()


def explore(page, tab) -> None:
    tab.get_by_role("button", name="Begin").click()
    for turn, k in enumerate((4, 5, 2), 1):
        tab.get_by_role("button", name=f"image {k}", exact=True).click()
        tab.get_by_text(f"Choice {turn}").wait_for()


def train(page, tab) -> None:
    tab.get_by_text("held-out loss").first.wait_for()


def figures(page, tab) -> None:
    tab.get_by_role("button", name="Draw", exact=True).click()
    tab.get_by_text("Each column starts").wait_for()
    tab.get_by_role("button", name="Measure", exact=True).click()
    tab.get_by_text("Lower is nearer").wait_for()


USES = {use.__name__: use for use in (sample, interpolate, encode, edit, explore, train, figures)}


def drawn(page, path: Path, colours: int | None) -> None:
    """Save what the page shows, as high as it is."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(800)
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= seen, f"{path}: {wide} pixels wide, and {seen} are seen"
    image = Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB")
    if colours:
        image = image.quantize(colours, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", action="store_true", help="every tab in every look, in all its colours")
    parser.add_argument("--tabs", nargs="*", default=list(USES))
    parser.add_argument("--run", type=Path, help="a run folder that the Train tab shows; by default one is trained")
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    every = [(tab, look, scheme) for tab in USES for look in LOOKS for scheme in ("light", "dark")]
    wanted = every if o.every else SHOWN
    with tempfile.TemporaryDirectory() as folder:
        out, run = o.out.absolute(), o.run and o.run.absolute()
        os.chdir(folder)  # the page shows where it writes
        shutil.copytree(run, "studio/runs/first") if run else trained()
        studio = Studio(("digits",), Path("studio"), "digits")
        with served(studio) as address, browser() as opened:
            for look, scheme in dict.fromkeys((look, scheme) for _, look, scheme in wanted):
                width, height = LOOKS[look]
                session = opened.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                page = session.new_page()
                page.set_default_timeout(120_000)
                page.goto(address)
                page.get_by_text("M parameters").wait_for()
                sample(page, page.locator("#sample"))
                for tab in [tab for tab, *how in wanted if how == [look, scheme] and tab in o.tabs]:
                    show(page, tab)
                    if tab != "sample":
                        USES[tab](page, page.locator(f"#{tab}"))
                    drawn(page, out / f"{tab}-{look}-{scheme}.png", None if o.every else COLOURS)
                session.close()


def show(page, tab: str) -> None:
    """Open a tab, also where the row of tabs is too narrow to name them all."""
    named = page.get_by_role("tab", name=tab.capitalize(), exact=True)
    if not named.count():
        page.get_by_role("button", name="More tabs").first.click()
        named = page.locator(".overflow-dropdown").first.get_by_role("button", name=tab.capitalize(), exact=True)
    named.click()
    page.locator(f"#{tab}").wait_for()


def trained() -> None:
    """A run of two minutes."""
    ddim.train("digits", "studio/runs/first", time="2m")


if __name__ == "__main__":
    main()
