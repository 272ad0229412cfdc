"""Sheets, animations and curves, pixel for pixel where they are made of pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.command_line import refused

from ddim import plots
from ddim.errors import InputError
from ddim.plots import sheets


def bytes_of(n: int, channels: int = 3, height: int = 4, width: int = 4) -> torch.Tensor:
    """(n, channels, height, width) uint8, every pixel its own."""
    return torch.randint(0, 256, (n, channels, height, width), generator=torch.Generator().manual_seed(0)).byte()


@pytest.mark.parametrize("channels", [1, 3])
def test_images_survive_a_file(tmp_path: Path, channels: int):
    image = bytes_of(1, channels)[0]
    assert torch.equal(plots.read(plots.save(plots.to_pil(image), tmp_path / "a.png")), image)
    assert torch.equal(plots.read(plots.save(plots.to_pil(image.float() / 127.5 - 1), tmp_path / "b.png")), image)


def test_floats_are_clamped_and_rounded():
    image = torch.tensor([-9.0, -1, 0.004, 9]).reshape(1, 2, 2)
    assert np.array(plots.to_pil(image)).tolist() == [[0, 0], [128, 255]]


@pytest.mark.parametrize(("size", "scale"), [(8, 8), (28, 2), (32, 2), (64, 1), (256, 1)])
def test_small_images_are_enlarged_to_about_64(size: int, scale: int):
    assert plots.enlargement(size) == scale


def test_a_grid_is_about_square_and_keeps_every_pixel():
    """Five images of 4×6, two enlarged: three columns, two rows, white between them and in the place of a sixth."""
    images = bytes_of(5, height=4, width=6)
    sheet = torch.from_numpy(np.array(plots.rows([images[:3], images[3:]], scale=2))).permute(2, 0, 1)
    assert sheet.shape == (3, 2 + 2 * (8 + 2), 2 + 3 * (12 + 2))
    for k, image in enumerate(images):
        top, left = 2 + k // 3 * 10, 2 + k % 3 * 14
        assert torch.equal(sheet[:, top : top + 8 : 2, left : left + 12 : 2], image)
    assert (sheet[:, 12:20, 30:] == 255).all()
    assert (sheet[:, :2] == 255).all()
    assert np.array_equal(np.array(plots.grid(images)), np.array(plots.rows([images[:3], images[3:]])))
    assert plots.grid(images, 5).width > plots.grid(images).width


def test_labels_and_heads_stand_outside_the_images():
    images = bytes_of(2, height=16, width=16)
    plain, labelled = plots.rows([images]), plots.rows([images], ["a label"], heads=["one", "two"])
    assert labelled.width > plain.width
    assert labelled.height > plain.height
    inner = np.array(labelled)[-plain.height :, -plain.width :]  # the images and the gaps right of and below them
    assert np.array_equal(inner[4:, 4:], np.array(plain)[4:, 4:])
    assert (np.array(labelled)[:, : labelled.width - plain.width] < 255).any()  # the label


def frames(n: int) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), (60 * i, 0, 0)) for i in range(n)]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("back", [False, True])
def test_animations(tmp_path: Path, suffix: str, back: bool):
    """One way, or there and back without a repeat of the last; the ends are held for 0.6 s; endless."""
    path = plots.animation(frames(4), tmp_path / f"a{suffix}", seconds=0.8, back=back)
    reds, times = [], []
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        for i in range(image.n_frames):
            image.seek(i)
            image.load()
            reds.append(image.convert("RGB").getpixel((0, 0))[0])
            times.append(image.info["duration"])
    assert np.abs(np.array(reds) - 60 * np.array([0, 1, 2, 3, 2, 1] if back else [0, 1, 2, 3])).max() <= 4
    assert times == ([600, 200, 200, 600, 200, 200] if back else [600, 200, 200, 600])


def test_a_loss_curve(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"step": k, "loss": 1 / (k + 1)}) + "\n" for k in range(100)))
    with Image.open(plots.loss_curve(log, tmp_path / "loss.png")) as image:
        assert image.size == (720, 480)
        assert len(image.convert("RGB").getcolors(2**20)) > 10


def test_what_the_disk_refuses_is_one_line_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(InputError, match=r"no/a\.png: cannot be written"):
        plots.save(plots.grid(bytes_of(1)), tmp_path / "no" / "a.png")
    with pytest.raises(InputError, match=r"no/a\.gif: cannot be written"):
        plots.animation(frames(2), tmp_path / "no" / "a.gif")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_is_one_line(tmp_path: Path, ddim_cli):
    with pytest.raises(InputError, match=r"a\.xyz: \.xyz is no format of images; name a \.png file"):
        plots.save(plots.grid(bytes_of(1)), tmp_path / "a.xyz")
    with pytest.raises(InputError, match=r"a: no suffix is no format of animations; name a \.gif or \.webp file"):
        plots.animation(frames(2), tmp_path / "a")
    refused(ddim_cli("data", "digits", "--out", "a.xyz"), "a.xyz: .xyz is no format of images")  # before any is read
    assert not (tmp_path / "a.xyz").exists()


def test_labels_have_the_letters_of_most_alphabets():
    """Each letter is drawn as itself: no two alike, as the boxes are that stand for letters which a font lacks."""
    font = sheets.font_of(24)
    drawn = [bytes(font.getmask(letter)) for letter in "aäöüñéøßжΩεŁ"]
    assert len(set(drawn)) == len(drawn)
