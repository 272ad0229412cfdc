"""Folders of sampling jobs: what their settings file says, folders of earlier versions, damaged files, odd places."""

import json
from pathlib import Path

import pytest
import torch
from support.models import tiny_model

import ddim
from ddim.diffusion.clipping import Clip
from ddim.errors import InputError
from ddim.jobs import sample_files, timings
from ddim.jobs import sampling as job
from ddim.jobs.image_files import Pngs, Shards


def settings(out: Path) -> dict:
    return json.loads((out / "sample.json").read_text())


def test_the_settings_say_what_decides_the_images(tmp_path):
    model = tiny_model()
    sample_files(model, tmp_path / "a", n=2, steps=3, solver="heun", clip=Clip(0.9, keep_eps=True), batch_size=2)
    assert settings(tmp_path / "a") == {
        **{"model": model.fingerprint, "precision": model.facts.precision, "format": "png", "seed": 0, "steps": 3},
        **{"spacing": "power-1.5", "times": None, "eta": 0.0, "clip": [0.9, True], "solver": "heun"},
        **{"variance": "small"},
        **{"label": None, "guidance": 1.0, "batch_size": 2},
    }
    with pytest.raises(InputError, match="made with solver heun, not unipc"):
        sample_files(model, tmp_path / "a", n=2, steps=3, solver="unipc", clip=Clip(0.9, keep_eps=True))


def test_clipping_is_kept_as_it_came_out(tmp_path):
    """The default, spelled out: the same images are then asked for in two ways."""
    model = tiny_model()
    sample_files(model, tmp_path / "a", n=2, steps=2)
    assert settings(tmp_path / "a")["clip"] == [1.0, False, 0.5]
    sample_files(model, tmp_path / "a", n=3, steps=2, clip=Clip(below=0.5))
    with pytest.raises(InputError, match=r"made with clip \[1.0, False, 0.5\], not True"):
        sample_files(model, tmp_path / "a", n=3, steps=2, clip=True)


@pytest.mark.parametrize("how", [{"eta": "hat"}, {"eta": 1, "variance": "large"}])
def test_a_folder_of_an_earlier_version_is_continued(tmp_path, how: dict):
    """Without solver and variance in its settings, hat as its eta, and a grid among its images."""
    model, out = tiny_model(), tmp_path / "out"
    sample_files(model, tmp_path / "whole", n=4, steps=3, batch_size=2, **how)
    sample_files(model, out, n=2, steps=3, batch_size=2, **how)
    before = settings(out)
    assert (before.pop("solver"), before.pop("variance")) == ("ddim", "large")
    (out / "sample.json").write_text(json.dumps(before | {"eta": "hat"}))
    (out / "grid.png").write_bytes((tmp_path / "out-sheet.png").read_bytes())
    sample_files(model, out, n=4, steps=3, **how)
    assert sorted(path.name for path in out.iterdir()) == [*(f"0000{k}.png" for k in range(4)), "sample.json"]
    for k in range(4):
        assert (out / f"0000{k}.png").read_bytes() == (tmp_path / f"whole/0000{k}.png").read_bytes()


def test_a_users_grid_stays(tmp_path):
    sample_files(tiny_model(), tmp_path / "out", n=1, steps=1)
    (tmp_path / "out/grid.png").write_text("mine")
    sample_files(tiny_model(), tmp_path / "out", n=2, steps=1)
    assert (tmp_path / "out/grid.png").read_text() == "mine"


def test_the_sheet_of_this_folder_lies_beside_it(tmp_path, monkeypatch):
    (tmp_path / "here/deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here/deeper")
    sample_files(tiny_model(), ".", n=1, steps=1)
    assert (tmp_path / "here/deeper-sheet.png").is_file()
    assert sorted(path.name for path in Path().iterdir()) == ["00000.png", "sample.json"]
    with pytest.raises(InputError, match="name another folder"):
        sample_files(tiny_model(), "/", n=1, steps=1)


def test_times_that_end_in_noise_are_mentioned(tmp_path, capsys):
    sample_files(tiny_model(), tmp_path / "a", n=1, times=[900, 300])
    assert capsys.readouterr().err == "ddim: the times end at 300, not at 0: the images will still be noisy\n"
    sample_files(tiny_model(), tmp_path / "b", n=1, times=[900, 0])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", [Pngs, Shards])
def test_any_damage_that_shows_counts_as_missing(tmp_path, kind):
    """Each byte of a file changed, or the file cut there: nothing but a readable file of the right shape is taken. The
    pixels of a .npy have no checksum; those of a PNG do.
    """
    files, images = kind(tmp_path), torch.arange(3 * 64).reshape(1, 3, 8, 8).to(torch.uint8)
    files.write(range(1), images)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    assert files.has(range(1), (3, 8, 8))
    for k in range(len(whole)):
        file.write_bytes(whole[:k])
        assert not files.has(range(1), (3, 8, 8)), k
        file.write_bytes(whole[:k] + bytes([whole[k] ^ 0x80]) + whole[k + 1 :])
        if files.has(range(1), (3, 8, 8)) and kind is Pngs:
            assert torch.equal(files.read(range(1)), images), k


def test_junk_in_a_log_is_left_out(tmp_path):
    log = tmp_path / "seconds.jsonl"
    timings.note(log, range(0, 4), 2.0)
    junk = ['{"seconds": 1, "images": [0, Infinity]}', '{"seconds": NaN, "images": [0, 4]}', "[" * 5000, "\x00\x00", ""]
    junk += ['{"seconds": -5, "images": [0, 4]}', '{"seconds": 5, "images": [4, 0]}', '{"seconds": 1, "images": [1]}']
    log.write_text(log.read_text() + "\n".join(junk))
    assert timings.seconds_an_image([log]) == 0.5


def test_sample_files_makes_the_images_of_sample(tmp_path):
    """By unipc, and from Python."""
    made = ddim.sample_files(tiny_model(), tmp_path / "out", n=3, steps=4, solver="unipc", format="npz")
    assert (made.images, made.sheet, made.shown) == (tmp_path / "out/images.npz", tmp_path / "out-sheet.png", 3)
    expected = job.to_uint8(ddim.sample(tiny_model(), 3, 4, solver="unipc"))
    assert torch.equal(Shards(tmp_path / "out/shards").read(range(3)), expected)
