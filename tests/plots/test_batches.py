"""A batch shown, and saved; objects that show themselves in a notebook."""

import base64
import re
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.models import labelled_model

import ddim
from ddim.evaluation.records import Record
from ddim.system import html


def test_a_sheet_has_every_image_where_it_belongs():
    """Five plain images, scaled by 16: the colour in the middle of each cell is the image's own."""
    levels = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])
    sheet = ddim.show(levels[:, None, None, None].expand(5, 1, 2, 2), columns=3, scale=16)
    gap, cell = 2, 32
    middle = [(gap + x * (cell + gap) + 16, gap + y * (cell + gap) + 16) for y in range(2) for x in range(3)]
    assert [sheet.getpixel(at)[0] for at in middle[:5]] == [0, 64, 128, 191, 255]
    assert sheet.getpixel(middle[5]) == (255, 255, 255)
    assert sheet._repr_png_()


def test_rows_are_labelled():
    a = torch.zeros(2, 1, 8, 8)
    plain, labelled = ddim.show([a, a]), ddim.show([a, a], labels=["before", "after"])
    assert labelled.width > plain.width
    assert labelled.height == plain.height


def test_images_are_saved_to_the_bit_and_never_over_others(tmp_path: Path):
    images = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8)
    paths = ddim.save_images(images[:2], tmp_path / "some" / "where")
    paths += ddim.save_images(images[2:], tmp_path / "some" / "where", first=2)
    assert [path.name for path in paths] == ["00000.png", "00001.png", "00002.png"]
    assert torch.equal(torch.stack([ddim.plots.read(path) for path in paths]), images)
    with pytest.raises(ddim.InputError, match=r"00002\.png: is there already; give another folder, or first=5"):
        ddim.save_images(images, tmp_path / "some" / "where", first=2)
    assert len(list((tmp_path / "some" / "where").iterdir())) == 3


@pytest.mark.parametrize(
    ("images", "word"),
    [
        (torch.zeros(3, 8, 8), "(3, 8, 8)"),
        (torch.zeros(1, 2, 8, 8), "one channel or three"),
        (torch.zeros(0, 1, 8, 8), "(0, 1, 8, 8)"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.int64), "int64"),
        ("digits", "'digits'"),
    ],
)
def test_what_is_no_batch_is_refused(images, word: str, tmp_path: Path):
    with pytest.raises(ddim.InputError) as refusal:
        ddim.save_images(images, tmp_path / "out")
    assert word in str(refusal.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ddim.InputError):
        ddim.show(images)


def test_a_model_shows_itself():
    shown = labelled_model(("cat", "<b>")).__class__._repr_html_(labelled_model(("cat", "<b>")))
    assert "<td>1×8×8</td>" in shown
    assert "cat, &lt;b&gt;" in shown


def test_a_record_shows_its_rows_and_its_figure(tmp_path: Path):
    figure = ddim.plots.save(Image.new("RGB", (3, 2), "red"), tmp_path / "figure.png")
    shown = Record(rows=[{"steps": 10, "mse": 0.012345}], figure=str(figure))._repr_html_()
    assert "<tr><th>steps</th><th>mse</th></tr><tr><td>10</td><td>0.0123</td></tr>" in shown
    data = base64.b64decode(re.search(r'base64,([^"]+)"', shown)[1])
    assert Image.open(BytesIO(data)).size == (3, 2)
    assert html.image(tmp_path / "gone.png") == ""
