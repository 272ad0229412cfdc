"""The verbs of the latent space: two through the real command line, the others in this process."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from support.command_line import refused
from support.models import labelled_model, tiny_model

import ddim
from ddim import images as data
from ddim import plots as plot
from ddim.cli import main as cli
from ddim.diffusion.noise import normal
from ddim.errors import InputError
from ddim.images.image_set import fit
from ddim.images.selection import Selection
from ddim.jobs import cost
from ddim.jobs.latent_files import LatentFile, writing


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a model, another model of the same shape, one of another shape, and five pictures of 8×8."""
    monkeypatch.chdir(tmp_path)
    ddim.save(tiny_model(), "model")
    ddim.save(tiny_model(1), "other")
    ddim.save(tiny_model(size=16), "large")
    Path("pictures").mkdir()
    digits = data.find("digits", 8, 1)
    for k in range(5):
        plot.save(plot.to_pil(digits[k]), tmp_path / "pictures" / f"{k}.png")
    return tmp_path


@pytest.fixture
def run(here, capsys):
    """Run a verb in this process; returns what it printed."""

    def run(*args: object) -> str:
        status = cli.main([str(a) for a in args])
        out = capsys.readouterr()
        assert status == 0, out.err
        return out.out

    return run


def reals() -> torch.Tensor:
    return Selection(["pictures"], ddim.load("model").shape).batch(range(5))


def test_encode_and_decode_on_the_command_line(here, ddim_cli):
    options = ("--steps", 20, "--solver", "exact", "--batch-size", 2)
    encoded = ddim_cli("encode", "model", "pictures", *options, "--out", "z.safetensors")
    assert encoded.returncode == 0, encoded.stderr
    assert "5 latents: z.safetensors" in encoded.stdout
    decoded = ddim_cli("decode", "model", "z.safetensors", "--out", "back")
    assert decoded.returncode == 0, decoded.stderr
    for k in range(5):
        assert torch.equal(plot.read(here / f"back/{k:05d}.png"), plot.read(here / f"pictures/{k}.png"))
    refused(ddim_cli("decode", "other", "z.safetensors"), "made with another model", "force decodes anyway")


def test_latents_know_what_they_were_made_with(run, here):
    told = run("encode", "model", "pictures/0.png", "pictures/3.png", "--steps", 10, "--out", "z.safetensors")
    model = ddim.load("model")
    latents = LatentFile(here / "z.safetensors")
    assert latents.about == {
        "model": model.fingerprint,
        "solver": "ddim",
        "times": list(range(1000, -1, -100)),
        "names": ["pictures/0.png", "pictures/3.png"],
    }
    z = latents.batch(range(2), "cpu")
    torch.testing.assert_close(z, ddim.encode(model, reals()[[0, 3]], 10), rtol=1e-4, atol=1e-4)
    mean, deviation = map(float, re.findall(r"(-?\d+\.\d{3})[, ]", told.splitlines()[2]))
    assert abs(mean - z.mean()) < 1e-3
    assert abs(deviation - z.std(correction=0)) < 1e-3


def test_the_first_images_only(run, here):
    assert "2 latents" in run("encode", "model", "pictures", "--n", 2, "--steps", 3, "--out", "first.safetensors")
    run("encode", "model", "pictures/0.png", "pictures/1.png", "--steps", 3, "--out", "named.safetensors")
    first, named = (LatentFile(here / f"{name}.safetensors") for name in ("first", "named"))
    assert first.about == named.about
    assert torch.equal(first.batch(range(2), "cpu"), named.batch(range(2), "cpu"))


def test_implicit_encoding_reports_its_residual(run):
    told = run("encode", "model", "pictures", "--steps", 10, "--solver", "implicit", "--out", "z.safetensors")
    assert re.search(r"largest residual of a step: \d", told)


def test_the_file_is_safetensors_whatever_the_batches(here):
    z = normal(0, range(7), (3, 4, 4))
    with writing(here / "a.safetensors", ("z", "before"), z.shape, {"x": "é"}) as append:
        for k in (0, 3, 6):
            append(z[k : k + 3], -z[k : k + 3])
    with safe_open("a.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("z"), z)
        assert torch.equal(file.get_tensor("before"), -z)
        assert json.loads(file.metadata()["ddim"]) == {"x": "é"}


def test_latents_that_are_not_finished_leave_no_file(here):
    def stop() -> None:
        with writing(here / "a.safetensors", ("z",), (2, 1, 4, 4), {}) as append:
            append(torch.zeros(1, 1, 4, 4))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert not list(here.glob("*.safetensors"))


def test_decoding_elsewhere_is_refused_unless_forced(run, here, capsys):
    run("encode", "model", "pictures", "--steps", 10, "--out", "z.safetensors")
    run("encode", "model", "pictures", "--steps", 10, "--solver", "exact", "--out", "pair.safetensors")
    save_file({"z": torch.zeros(1, 1, 8, 8)}, "plain.safetensors")
    Path("text.safetensors").write_text("no")
    for args, words in {
        ("other", "z.safetensors"): "made with another model",
        ("model", "z.safetensors", "--steps", "20"): "another grid",
        ("large", "z.safetensors", "--force"): "shape (1, 8, 8)",
        ("model", "pair.safetensors", "--steps", "20", "--force"): "times 1000 and 900",
        ("model", "plain.safetensors"): "not latents made by ddim encode",
        ("model", "text.safetensors"): "not latents made by ddim encode",
        ("model", "none.safetensors"): "no such file",
        ("model", "z.safetensors", "--spacing", "quadratic"): "another grid",
        ("model", "z.safetensors", "--steps", "0", "--force"): "steps must be",
        ("model", "pair.safetensors", "--solver", "ddim"): "leave out the solver",
    }.items():
        assert cli.main(["decode", *args]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert words in line
    assert not (here / "decoded").exists()
    run("decode", "other", "z.safetensors", "--steps", 20, "--force")
    z = LatentFile(here / "z.safetensors").batch(range(5), "cpu")
    expected = data.to_uint8(ddim.decode(ddim.load("other"), z, 20))
    made = torch.stack([plot.read(here / f"decoded/{k:05d}.png") for k in range(5)])
    assert (made.int() - expected.int()).abs().max() <= 1


def test_decoding_continues_and_leaves_other_images_alone(run, here, capsys):
    for solver in ("ddim", "exact"):
        run("encode", "model", "pictures", "--steps", 4, "--solver", solver, "--out", f"{solver}.safetensors")
    decode = ("decode", "model", "ddim.safetensors", "--batch-size", 2)
    run(*decode)
    made = {path.name: path.read_bytes() for path in (here / "decoded").iterdir()}
    assert sorted(made) == [*(f"{k:05d}.png" for k in range(5)), "decode.json"]
    (here / "decoded/00002.png").unlink()
    (here / "decoded/00004.png").write_bytes(b"damaged")
    run(*decode)
    assert {path.name: path.read_bytes() for path in (here / "decoded").iterdir()} == made
    Path("mine").mkdir()
    Path("mine/00000.png").write_text("mine")
    for args, words in {
        (*decode[:2], "exact.safetensors"): "decoded: holds files made with latents ",
        (*decode, "--solver", "heun"): "decoded: holds files made with solver ddim, not heun; name another folder",
        (*decode, "--out", "mine"): "mine: holds other files; name an empty or a new folder",
    }.items():
        assert cli.main([*map(str, args)]) == 2
        assert words in capsys.readouterr().err.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in (here / "decoded").iterdir()} == made
    assert Path("mine/00000.png").read_text() == "mine"


def test_the_sheet_of_a_set_replaces_no_file(run, here):
    Path("data.png").write_text("mine")
    assert "data-2.png" in run("data", "pictures")
    assert "data-3.png" in run("data", "pictures")
    assert Path("data.png").read_text() == "mine"
    assert Path("data-2.png").read_bytes() == Path("data-3.png").read_bytes()
    run("data", "pictures", "--out", "data-2.png", "--size", 16)  # as asked for
    assert Path("data-2.png").read_bytes() != Path("data-3.png").read_bytes()


def test_reconstruct_takes_few_steps_by_default_and_says_what_many_cost(here, capsys, monkeypatch):
    monkeypatch.setattr(cost, "LONG", 0.0)
    monkeypatch.setattr(cost, "TIMED", 720)
    assert cli.main(["reconstruct", "model", "pictures", "--n", "4", "--batch-size", "2"]) == 0
    rows = json.loads((here / "reconstruct/reconstruct.json").read_text())["rows"]
    assert [row["steps"] for row in rows] == [10, 20, 50, 100]
    assert "720 calls of the network with 2 images" in capsys.readouterr().err  # 2 batches × 2 ways × 180 steps


def test_reconstruct_measures_the_round_trip(run, here):
    told = run("reconstruct", "model", "pictures", "--steps", 10, 50, "--batch-size", 2)
    model, x = ddim.load("model"), reals()
    rows = json.loads((here / "reconstruct/reconstruct.json").read_text())["rows"]
    assert "paper" not in told  # its table is of other images
    for row, S in zip(rows, (10, 50), strict=True):
        z = ddim.encode(model, x, S)
        back = ddim.decode(model, z, S).clamp(-1, 1)
        mse = ((back + 1) / 2 - (x + 1) / 2).square().mean().item()
        np.testing.assert_allclose(row["mse"], mse, rtol=1e-3)
        np.testing.assert_allclose([row["mean"], row["deviation"]], [z.mean(), z.std(correction=0)], atol=1e-3)
    figure = here / "reconstruct/reconstruct.png"
    margin = plot.read(figure).shape[2] - 5 * 68
    assert torch.equal(cells(figure, 0, 5, margin), data.to_uint8(x))
    assert (cells(figure, 2, 5, margin).int() - data.to_uint8(back).int()).abs().max() <= 1


@pytest.mark.parametrize("method", ["implicit", "exact"])
def test_reconstruct_by_the_inverting_methods(run, here, method: str):
    run("reconstruct", "model", "pictures", "--steps", 20, "--solver", method)
    run("reconstruct", "model", "pictures", "--steps", 20, "--out", "plain")
    ours, plain = (json.loads((here / d / "reconstruct.json").read_text())["rows"][0] for d in ("reconstruct", "plain"))
    assert ours["mse"] < 0.01 * plain["mse"]


def test_consistency_measures_the_distance_to_the_longest(run, here):
    run("consistency", "model", "--steps", 10, 50, 20, "--n", 6, "--batch-size", 4)
    model = ddim.load("model")
    made = {S: ddim.sample(model, 6, S, solver="ddim") for S in (10, 20, 50)}
    result = json.loads((here / "consistency/consistency.json").read_text())

    def distance(a, b):
        return np.mean([((u - v) / 2).square().mean().sqrt().item() for u, v in zip(a, b, strict=True)])

    assert [row["steps"] for row in result["rows"]] == [10, 20]
    for row in result["rows"]:
        np.testing.assert_allclose(row["distance"], distance(made[row["steps"]], made[50]), rtol=1e-3)
    np.testing.assert_allclose(result["unrelated"], distance(made[50], made[50][[5, 0, 1, 2, 3, 4]]), rtol=1e-3)


def cells(figure: Path, row: int, columns: int, labels: int, size: int = 64, top: int = 0) -> torch.Tensor:
    """The 8×8 pictures of one row of a figure: the first pixel of each enlarged one. `labels`: width of the margin."""
    image = plot.read(figure)
    down = top + 4 + row * (size + 4)
    return torch.stack(
        [
            image[0:1, down : down + size : 8, labels + j * (size + 4) : labels + j * (size + 4) + size : 8]
            for j in range(columns)
        ]
    )


def test_interpolate_ends_with_the_seeds_own_pictures(run, here):
    run("interpolate", "model", "--seeds", 3, 8, "--frames", 5, "--steps", 10)
    model = ddim.load("model")
    made = cells(here / "interpolate/interpolate.png", 0, 5, 4)
    ends = torch.cat([ddim.sample(model, 1, 10, seed=s, solver="ddim") for s in (3, 8)])
    assert (made[[0, -1]].int() - data.to_uint8(ends).int()).abs().max() <= 1
    z = torch.cat([normal(s, [0], model.shape) for s in (3, 8)])
    frames = data.to_uint8(ddim.interpolate(model, z[:1], z[1:], 5, 10))
    assert (made.int() - frames.int()).abs().max() <= 1
    with Image.open("interpolate/interpolate.gif") as moving:
        assert moving.n_frames == 8  # there and back


def test_interpolate_over_four_seeds_is_a_grid(run, here):
    run("interpolate", "model", "--seeds", 3, 8, 1, 2, "--frames", 3, "--steps", 5, "--format", "webp")
    model = ddim.load("model")
    corners = data.to_uint8(torch.cat([ddim.sample(model, 1, 5, seed=s, solver="ddim") for s in (3, 8, 1, 2)]))
    made = torch.stack([cells(here / "interpolate/interpolate.png", row, 3, 4) for row in range(3)])
    assert (made[[0, 0, 2, 2], [0, 2, 0, 2]].int() - corners.int()).abs().max() <= 1
    with Image.open("interpolate/interpolate.webp") as moving:
        assert moving.n_frames == 4


def test_numbers_are_images_of_a_seed_as_sampling_counts_them(run, here, capsys):
    """The ends are the images 3 and 1 of seed 5."""
    run("interpolate", "model", "--seeds", 5, 5, "--numbers", 3, 1, "--frames", 3, "--steps", 4, "--no-clip")
    images = ddim.sample(ddim.load("model"), n=4, seed=5, steps=4, solver="ddim", clip=False)
    made = cells(here / "interpolate/interpolate.png", 0, 3, 4)
    assert (made[[0, -1]].int() - data.to_uint8(images[[3, 1]]).int()).abs().max() <= 1
    assert cli.main(["interpolate", "model", "--seeds", "0", "1", "--numbers", "2"]) == 2
    assert "an image of each of the 2 seeds; got 1" in capsys.readouterr().err


def test_interpolate_between_real_pictures(run, here):
    """With exact inversion the frames at the ends are the pictures."""
    ends = ("pictures/0.png", "pictures/1.png")
    run("interpolate", "model", *ends, "--frames", 3, "--steps", 20)
    made = cells(here / "interpolate/interpolate.png", 0, 5, 4, top=24)
    real = torch.stack([plot.read(here / end) for end in ends])
    assert torch.equal(made[[0, 4]], real)
    assert torch.equal(made[[1, 3]], real)
    assert not torch.equal(made[2], real[0])


def test_few_steps_between_real_pictures_are_warned_of(here, capsys):
    way = ["interpolate", "model", "pictures/1.png", "pictures/2.png", "--frames", "2"]
    for steps, said in ((5, True), (20, False)):
        assert cli.main([*way, "--steps", str(steps), "--out", f"by-{steps}"]) == 0
        assert ("in 5 steps the images between" in capsys.readouterr().err) is said
    assert cli.main([*way, "--steps", "5", "--solver", "ddim", "--out", "by-ddim"]) == 0
    assert "the images between" not in capsys.readouterr().err


def test_interpolate_from_label_to_label(run, here):
    """The pictures come back at the ends, each by its own class; between them ε of both classes is mixed."""
    ddim.save(labelled_model(), "labelled")
    ends, how = ("pictures/0.png", "pictures/1.png"), ("--frames", 5, "--steps", 20)
    run("interpolate", "labelled", *ends, *how, "--label", "cat", "ship", "--guidance", 1.5)
    made = cells(here / "interpolate/interpolate.png", 0, 7, 4, top=24)
    real = torch.stack([plot.read(here / end) for end in ends])
    assert torch.equal(made[[0, 6]], real)
    assert (made[[1, 5]].int() - real.int()).abs().max() <= 1
    model, x = ddim.load("labelled"), reals()[:2]
    guided = ddim.guided(model, ["cat", "ship"], 1.5)
    z, behind = ddim.encode(guided, x, 20, "quadratic", solver="exact")
    pairs = [(z[k : k + 1], behind[k : k + 1]) for k in range(2)]
    frames = ddim.interpolate(model, *pairs, 5, 20, "quadratic", label=("cat", "ship"), guidance=1.5)
    assert (made[1:6].int() - data.to_uint8(frames.float()).int()).abs().max() <= 1
    run("interpolate", "labelled", *ends, *how, "--label", "cat", "--guidance", 1.5, "--out", "cat")
    assert not torch.equal(cells(here / "cat/interpolate.png", 0, 7, 4, top=24)[3], made[3])


def test_interpolate_over_four_labels_has_each_at_its_corner(run, here, capsys):
    ddim.save(labelled_model(), "labelled")
    how = ("interpolate", "labelled", "--seeds", 3, 8, 1, 2, "--frames", 3, "--steps", 5, "--label")
    run(*how, "cat", "dog", "ship", "cat")
    model, labels = ddim.load("labelled"), ("cat", "dog", "ship", "cat")
    each = zip((3, 8, 1, 2), labels, strict=True)
    corners = [ddim.sample(model, 1, 5, seed=seed, solver="ddim", label=label) for seed, label in each]
    made = torch.stack([cells(here / "interpolate/interpolate.png", row, 3, 4) for row in range(3)])
    assert (made[[0, 0, 2, 2], [0, 2, 0, 2]].int() - data.to_uint8(torch.cat(corners)).int()).abs().max() <= 1
    assert cli.main([*map(str, how), "cat", "dog"]) == 2
    assert "2 labels for 4 images: give one label, or one an image" in capsys.readouterr().err


def test_the_ddpm_way_goes_from_label_to_label(run, here):
    ddim.save(labelled_model(), "labelled")
    how = ("interpolate", "labelled", "pictures/0.png", "pictures/1.png", "--ddpm", "--time", 500, "--frames", 3)
    rows = {}
    for name, labels in {"both": ("cat", "ship"), "first": ("cat",), "second": ("ship",)}.items():
        run(*how, "--steps", 6, "--label", *labels, "--guidance", 4, "--out", name)
        sheet = plot.read(here / name / "interpolate.png")
        rows[name] = cells(here / name / "interpolate.png", 0, 5, sheet.shape[2] - 5 * 68, top=24)[1:4].int()
    assert (rows["both"][0] - rows["first"][0]).abs().max() <= 1
    assert (rows["both"][2] - rows["second"][2]).abs().max() <= 1
    assert (rows["first"][0] - rows["second"][0]).abs().max() > 10
    assert (rows["both"][1] - rows["first"][1]).abs().max() > 5


def test_interpolate_the_ddpm_way(run, here):
    told = run("interpolate", "model", "pictures/0.png", "pictures/1.png", "--ddpm", "--time", 100, 900, "--frames", 4)
    assert "interpolate.png" in told
    assert plot.read(here / "interpolate/interpolate.png").shape[1:] == (4 + 24 + 2 * 68, pytest.approx(6 * 68, abs=90))


def test_sequence_shows_x_t_and_x0(run, here):
    run("sequence", "model", "--n", 2, "--frames", 3, "--steps", 4, "--precision", "fp32", "--no-clip")
    model = ddim.load("model")
    x = normal(0, range(2), model.shape)
    states = [x]
    predictions = []
    for x, prediction, _ in ddim.walk(model, x, [1000, 750, 500, 250, 0]):  # noqa: B020
        states.append(x)
        predictions.append(prediction.x0)
    predictions.append(states[-1])
    figure = here / "sequence/sequence.png"
    margin = plot.read(figure).shape[2] - 3 * 68
    for k in (0, 1):
        for what, expected in ((0, states), (1, predictions)):
            made = cells(figure, 2 * k + what, 3, margin, top=24)
            wanted = data.to_uint8(torch.stack([expected[i][k] for i in (0, 2, 4)]))
            assert (made.int() - wanted.int()).abs().max() <= 1
    with Image.open("sequence/sequence.gif") as moving:
        assert moving.n_frames == 5


def test_pictures_of_another_kind_are_fitted_with_a_notice(here, capsys):
    Image.new("RGBA", (20, 12), (255, 0, 0, 255)).save("wide.png")
    assert cli.main(["encode", "model", "wide.png", "pictures/1.png", "--steps", "5"]) == 0
    told = capsys.readouterr().err
    assert "wide.png is 20×12: cropped and resized to 8×8" in told
    assert "wide.png is RGBA: converted to L" in told
    assert cli.main(["encode", "model", "pictures/1.png", "--steps", "5"]) == 0
    assert "ddim: " not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("encode", "model"), "no images named"),
        (("encode", "model", "notes.txt"), "notes.txt: neither a folder of images"),
        (("encode", "model", "bad.png"), "bad.png: not a readable image"),
        (("encode", "model", "absent.png"), "no such folder or file"),
        (("encode", "model", "pictures", "--out", "z.png"), "give the name this ending"),
        (("encode", "model", "pictures", "--steps", "1", "--solver", "exact"), "at least 2 steps"),
        (("encode", "model", "pictures", "--times", "900", "300"), "must end at 0"),
        (("encode", "model", "pictures", "--steps", "2000"), "steps must be from 1 to 1000"),
        (("reconstruct", "model", "pictures", "--steps", "0"), "steps must be"),
        (("reconstruct", "model", "pictures", "--n", "0"), "--n must be at least 1"),
        (("consistency", "model", "--n", "1"), "n must be at least 2"),
        (("consistency", "model", "--spacing", "official-linear", "--steps", "10", "20"), "start at different times"),
        (("interpolate", "model", "--seeds", "1"), "2 or 4 ends; got 1"),
        (("interpolate", "model", "--seeds", "1", "2", "3", "4", "--ddpm"), "2 ends; got 4"),
        (("interpolate", "model", "--time", "250"), "choose ddpm too"),
        (("interpolate", "model", "--ddpm", "--time", "1001"), "from 1 to 1000"),
        (("interpolate", "model", "--frames", "1"), "--frames must be at least 2"),
        (("sequence", "model", "--n", "0"), "--n must be at least 1"),
    ],
)
def test_bad_input_is_told_in_one_line(here, capsys, args: tuple, words: str):
    Path("notes.txt").write_text("not a picture")
    Path("bad.png").write_text("not a picture")
    before = {p for p in here.rglob("*") if p.is_file()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cli.main(list(args)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ddim: ")]
    assert len(lines) == 1
    assert words in lines[0]
    assert {p for p in here.rglob("*") if p.is_file()} == before


def test_an_album_is_its_sources_in_order_cropped_as_they_ask(here):
    chosen = Selection(["pictures/4.png", "digits", "pictures"], tiny_model().shape)
    digits = data.find("digits", 8, 1)
    assert len(chosen) == 1 + len(digits) + 5
    for i, k in {0: 4, 1: 0, 1797: 1796, 1798: 0, 1802: 4}.items():
        assert torch.equal(chosen.decode(i), digits[k])
    chosen.parts[1].crop = (0, 0, 4, 8)
    assert torch.equal(chosen.decode(2)[:, 4], fit(chosen.parts[1].open(1).crop((0, 0, 4, 8)), 8, 1)[:, 4])
    assert torch.equal(chosen.decode(0), digits[4])


def test_no_pictures_is_an_input_error():
    with pytest.raises(InputError, match="no images"):
        Selection([], tiny_model().shape)


def test_an_interpolation_is_not_drawn_over(here, run):
    """By the rule of all jobs: the same call may come again, another one names another folder."""
    how = ("interpolate", "model", "--frames", 2, "--steps", 2)
    run(*how)
    before = Path("interpolate/interpolate.png").read_bytes()
    run(*how)
    for more in (("--seeds", 3, 4), ("--steps", 3), ("--no-clip",)):
        assert cli.main([*map(str, how), *map(str, more)]) == 2
    assert Path("interpolate/interpolate.png").read_bytes() == before
