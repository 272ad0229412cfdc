"""Editing as a job, from the command line: what is known returns, what stopped continues, what cannot be is said."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.command_line import refused
from support.models import labelled_model, tiny_model

import ddim
from ddim import plots
from ddim.images import to_float


def pngs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def images(n: int, channels: int = 1, size: int = 8, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with two models, images of their sizes, and masks."""
    ddim.save(labelled_model(), tmp_path / "model")
    ddim.save(tiny_model(channels=3), tmp_path / "rgb")
    for name, channels in (("grey", 1), ("colour", 3)):
        (tmp_path / name).mkdir()
        for k, image in enumerate(images(3, channels)):
            plots.save(plots.to_pil(image), tmp_path / name / f"{k}.png")
    (tmp_path / "small").mkdir()
    for k, image in enumerate(images(2, 3, 4)):
        plots.save(plots.to_pil(image), tmp_path / "small" / f"{k}.png")
    mask = Image.new("L", (8, 8))
    mask.paste(255, (2, 3, 7, 6))
    mask.save(tmp_path / "mask.png")
    return tmp_path


def read(folder: Path, indices: range):
    return torch.stack([plots.read(folder / f"{k:05d}.png") for k in indices])


@pytest.mark.parametrize("method", [(), ("--resample", 2), ("--method", "pigdm"), ("--method", "dps")], ids=str)
def test_what_is_black_returns_to_the_last_bit(ddim_cli, place, method):
    result = ddim_cli("inpaint", "rgb", "colour", "--mask", "mask.png", "--answers", 2, "--steps", 3, *method)
    assert result.returncode == 0, result.stderr
    assert "3 images, 2 answers each: inpainted" in result.stdout
    assert (place / "inpainted-sheet.png").exists()
    made, x = read(place / "inpainted", range(6)), images(3, 3).repeat_interleave(2, 0)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[3:6, 2:7] = True
    assert torch.equal(made[:, :, ~mask], x[:, :, ~mask])
    assert (made[0] != made[1]).any()
    assert (made[0].float() - x[0].float())[:, mask].abs().mean() > 5


def test_a_job_continues_and_does_not_depend_on_the_batch(ddim_cli, place):
    how = ("inpaint", "model", "grey", "--mask", "mask.png", "--answers", 2, "--steps", 3, "--precision", "fp32")
    how += ("--label", "dog", "--guidance", 2)
    assert ddim_cli(*how).returncode == 0
    before = pngs(place / "inpainted")
    assert len(before) == 6
    (place / "inpainted" / "00003.png").unlink()
    (place / "inpainted" / "00004.png").write_bytes(before["00004.png"][:40])
    assert ddim_cli(*how).returncode == 0
    assert pngs(place / "inpainted") == before
    assert ddim_cli(*how, "--batch-size", 4, "--out", "other").returncode == 0
    others = read(place / "other", range(6)).int() - read(place / "inpainted", range(6)).int()
    assert others.abs().max() <= 1
    refused_ = ddim_cli(*how, "--seed", 1)
    refused_.stderr = refused_.stderr.splitlines()[-1]
    refused(refused_, "holds files made with seed 0, not 1; name another folder")
    plots.save(plots.to_pil(images(1, seed=5)[0]), place / "grey" / "1.png")
    changed = ddim_cli(*how)
    assert "holds files made with images" in changed.stderr


def test_a_bar_is_named_after_the_work_and_a_finished_job_has_none(ddim_cli, place):
    """Each verb by its own name; a second run has nothing left to do, and says the same without a bar."""
    mask = ("--mask", "mask.png", "--steps", 3, "--n", 1)
    for verb, args, name, line in (
        ("inpaint", mask, "inpainting", "1 image, 1 answer: inpainted"),
        ("restore", ("--task", "deblur", "--steps", 3, "--n", 1), "restoring", "1 image, 1 answer: restored"),
        ("vary", ("--steps", 3, "--n", 1), "varying", "1 image: varied"),
    ):
        first = ddim_cli(verb, "model", "grey", "--label", "cat", *args)
        assert first.returncode == 0, first.stderr
        assert first.stderr.startswith(name)
        assert line in first.stdout
        again = ddim_cli(verb, "model", "grey", "--label", "cat", *args)
        assert (again.returncode, again.stderr, again.stdout) == (0, "", first.stdout)


def test_small_images_become_large_ones_that_agree(ddim_cli, place):
    result = ddim_cli("restore", "rgb", "small", "--factor", 2, "--steps", 3, "--precision", "fp32", "--n", 1)
    assert result.returncode == 0, result.stderr
    assert len(pngs(place / "restored")) == 1
    made = to_float(read(place / "restored", range(1)))
    apart = ddim.operators.SuperResolution(2)(made) - to_float(images(2, 3, 4))[:1]
    assert apart.abs().mean() < 0.01  # of 8 bits; what reaches black or white cannot agree everywhere


@pytest.mark.parametrize("task", [("super-resolve", "--factor", 4), ("colour",), ("deblur", "--sigma", 0.7)])
def test_degraded_first_and_measured(ddim_cli, place, task):
    how = ("restore", "rgb", "colour", "--task", *task, "--degrade", "--answers", 2, "--steps", 3, "--noise", 0.1)
    result = ddim_cli(*how)
    assert result.returncode == 0, result.stderr
    found = ddim.restore_files(
        ddim.load(place / "rgb", "cpu"), str(place / "colour"), place / "again", task[0], degrade=True, steps=3,
        factor=4, sigma=0.7, answers=2, noise=0.1,
    )  # fmt: skip
    assert f"PSNR of an answer {found.psnr:.1f}"[:-2] in result.stdout
    made, x = to_float(read(place / "again", range(6))), to_float(images(3, 3)).repeat_interleave(2, 0)
    expected = (10 * (4 / (made - x).square().mean((1, 2, 3))).log10()).mean()
    assert abs(found.psnr - expected) < 1e-4
    apart = (made[1::2] - made[::2]).square().mean((1, 2, 3)).sqrt().mean()
    assert abs(found.diversity - apart) < 1e-6


def test_a_column_a_strength(ddim_cli, place):
    how = ("vary", "model", "grey", "--strength", 0.1, 0.9, "--answers", 2, "--steps", 3, "--label", "cat", "--n", 3)
    result = ddim_cli(*how)
    assert result.returncode == 0, result.stderr
    assert len(pngs(place / "varied")) == 12
    changes = [float(line.split("by ")[1].split()[0]) for line in result.stdout.splitlines() if "differs" in line]
    made, x = to_float(read(place / "varied", range(12))), to_float(images(3)).repeat_interleave(2, 0)
    for k in range(2):
        assert abs((made[6 * k : 6 * k + 6] - x).square().mean().sqrt() - changes[k]) < 6e-4
    straight = ddim.vary(ddim.load(place / "model", "cpu"), to_float(images(3)), 0.9, 2, 3, label="cat")
    assert (made[6:] - straight).abs().max() < 0.01
    (place / "varied" / "00007.png").unlink()
    before = pngs(place / "varied")
    assert ddim_cli(*how).returncode == 0
    assert {name: content for name, content in pngs(place / "varied").items() if name in before} == before


def test_another_class(ddim_cli, place):
    how = ("vary", "model", "grey", "--source", "cat", "--steps", 4)
    assert ddim_cli(*how, "--label", "cat", "--solver", "exact", "--out", "same").returncode == 0
    assert (read(place / "same", range(3)).int() - images(3).int()).abs().max() <= 1
    assert ddim_cli(*how, "--label", "ship", "--guidance", 2, "--out", "ship").returncode == 0
    straight = ddim.relabel(ddim.load(place / "model", "cpu"), to_float(images(3)), "cat", "ship", 2.0, steps=4)
    assert (to_float(read(place / "ship", range(3))) - straight).abs().max() < 0.01
    kept = json.loads((place / "ship" / "vary.json").read_text())
    assert (kept["source"], kept["label"], kept["guidance"]) == (0, 2, 2.0)


RGB = ("inpaint", "rgb", "colour", "--mask", "mask.png")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("inpaint", "model", "grey"), "--mask is missing"),
        (("inpaint", "model", "grey", "--mask", "none.png"), "none.png: no such mask"),
        (("inpaint", "model", "grey", "--mask", "model/model_index.json"), "no image that can be read"),
        (("inpaint", "model", "grey", "--mask", "grey/0.png"), "grey/0.png: the mask holds grey values"),
        (("inpaint", "model", "grey", "--mask", "small/0.png"), "the mask is 4×4 and the images 8×8"),
        (("inpaint", "model", "grey", "--mask", "black.png"), "black.png: the mask is black all over"),
        (("inpaint", "model", "grey", "--mask", "mask.png", "--label", "shop"), "give one of cat, dog, ship; did you"),
        (("inpaint", "model", "grey", "--mask", "mask.png", "--guidance", 2), "leads towards a class"),
        ((*RGB, "--label", 1), "this model knows no classes"),
        ((*RGB, "--answers", 0), "--answers must be at least 1"),
        ((*RGB, "--method", "dps", "--precision", "bf16"), "leave out --prec"),
        ((*RGB, "--method", "dps", "--scale", 0), "--scale must be above 0"),
        ((*RGB, "--method", "pigdm", "--resample", 3), "resample belongs to"),
        (("inpaint", "rgb"), "no images named"),
        (("restore", "rgb", "colour", "--factor", 3), "factor 3 does not divide 8×8: give one of 2, 4, 8"),
        (("restore", "rgb", "colour", "--task", "sharpen"), "unknown --task 'sharpen'"),
        (("restore", "model", "grey", "--task", "colour"), "only RGB images can be coloured"),
        (("restore", "rgb", "nothing"), "nothing"),
        (("restore", "rgb", "colour", "--noise", -1), "--noise must be at least 0"),
        (("vary", "model", "grey", "--strength", 1.5), "--strength must be at most 1"),
        (("vary", "model", "grey", "--strength", 0), "strength needs a value above 0"),
        (("vary", "model", "grey", "--times", 500, 0), "--times is not for vary"),
        (("vary", "model", "grey", "--source", "cat", "--label", "dog", "--answers", 2), "has no noise, so one answer"),
        (("vary", "model", "grey", "--source", "cat"), "is the class that the images are of: give --label"),
        (("vary", "model", "grey", "--source", "cow", "--label", "cat"), "unknown class 'cow'"),
        (("vary", "rgb", "colour", "--source", "cat", "--label", "dog"), "this model knows no classes"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(ddim_cli, place, args, said):
    Image.new("L", (8, 8)).save(place / "black.png")
    result = ddim_cli(*args, "--out", "out")
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert said in lines[-1], lines
    assert len(lines) == 1
    assert not (place / "out").exists()
