"""The tab of the paper's figures: its numbers and images are those of the commands below them."""

import json
from pathlib import Path

from support.browser import executed, fill, lines, linked, pngs, typed


def opened(page):
    page.get_by_role("tab", name="Figures", exact=True).click()
    return page.locator("#figures")


def test_one_noise_in_different_numbers_of_steps(page, tmp_path: Path):
    part = opened(page).locator("#row")
    fill(part.get_by_label("Steps"), "2 3")
    part.get_by_role("button", name="Draw").click()
    part.get_by_text("Each column starts from the same noise.").wait_for()
    assert len(pngs(part.locator("#consistency img"))) == 16
    figure = linked(part, "Download the figure")
    typed(lines(part, "command"), tmp_path / "typed")
    executed(lines(part, "python"), tmp_path / "executed")
    for where in ("typed", "executed"):
        assert (tmp_path / where / "consistency/consistency.png").read_bytes() == figure
    found = json.loads((tmp_path / "typed/consistency/consistency.json").read_text())
    assert f"{found['rows'][0]['distance']:.4f}" in part.inner_text()
    assert f"{found['unrelated']:.4f}" in part.inner_text()


def test_the_table_fills_in_and_is_that_of_the_command(page, tmp_path: Path):
    from playwright.sync_api import expect

    part = opened(page).locator("#table")
    fill(part.get_by_label("Steps"), "2 3")
    part.get_by_label("σ̂").check()
    part.get_by_label("η = 1").uncheck()
    fill(part.get_by_label("Images a cell"), "70")
    part.get_by_role("button", name="Measure").click()
    part.get_by_text("Lower is nearer to the real images.").wait_for()
    expect(part.locator("#fid td")).to_have_count(6)  # a table in between has other rows
    cells = part.locator("#fid td").all_inner_texts()
    assert [cells[0], cells[3]] == ["η = 0", "σ̂"]
    command = lines(part, "command")
    assert command == "ddim evaluate digits --reference digits --steps 2 3 --eta 0 hat --n 70 --out table --device cpu"
    typed(command, tmp_path / "typed")
    table = json.loads((tmp_path / "typed/table/table.json").read_text())
    fid = {(cell["steps"], cell["eta"]): f"{cell['fid']:.2f}" for cell in table["cells"]}
    assert [*cells[1:3], *cells[4:]] == [fid[2, 0.0], fid[3, 0.0], fid[2, "hat"], fid[3, "hat"]]
    found = executed(lines(part, "python"), tmp_path / "executed")["table"]
    for cell, again in zip(table["cells"], found["cells"], strict=True):
        assert again | {"seconds_an_image": 0} == cell | {"seconds_an_image": 0}
