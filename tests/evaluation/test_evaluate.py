"""ddim evaluate and ddim reproduce: what they print, what they write, what they refuse."""

import json

import numpy as np
import pytest
import torch
from support.models import tiny_network

import ddim
from ddim import images as data
from ddim import plots as plot
from ddim.cli import main as cli
from ddim.diffusion import schedule
from ddim.diffusion.facts import Facts
from ddim.diffusion.model import Model
from ddim.evaluation import features, metrics, published, report
from ddim.evaluation.fid_grid import record
from ddim.evaluation.metrics import Statistics
from ddim.evaluation.reference import Reference
from ddim.system.files import held


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in, with a cache of its own and a model of 20 levels that says it was trained on digits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    model = Model(tiny_network(), schedule.linear(20, 5e-3, 0.9), (1, 8, 8), facts=Facts(data="digits"))
    ddim.save(model, tmp_path / "model")
    return tmp_path


def ran(line: str) -> bool:
    return cli.main(line.split()) == 0


def refusal(capsys, *args: object) -> str:
    assert cli.main([str(arg) for arg in args]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    told = [line for line in lines if line.startswith("ddim: ")]
    assert len(told) == 1
    assert lines[-1] == told[0]
    return told[0]


def test_the_report_holds_what_was_measured(here, capsys):
    assert ran("evaluate model --steps 2 10 --eta 0 1 hat --n 90 --out out")
    told = capsys.readouterr().out
    table = json.loads((here / "out/table.json").read_text())
    assert [(c["steps"], c["eta"]) for c in table["cells"]] == [(s, e) for s in (2, 10) for e in (0.0, 1.0, "hat")]
    assert table["features"] == {"name": "digits-small", "hash": features.find("digits-small").hash, "width": 64}
    assert table["reference"] == {"source": "digits", "n": 1797, "data_set": None}
    assert table["paper"] is None

    # Each figure, computed again from the pictures that were written.
    network, real = features.find("digits-small"), data.load(data.find("digits", 8, 1))
    known = metrics.statistics(network, real)
    for cell in table["cells"]:
        files = sorted((here / "out/cells" / f"S{cell['steps']}-eta{cell['eta']}").glob("[0-9]*.npy"))
        pictures = torch.from_numpy(np.concatenate([np.load(file) for file in files])).permute(0, 3, 1, 2)
        assert pictures.shape == (90, 1, 8, 8)
        found = metrics.statistics(network, pictures)
        assert cell["fid"] == pytest.approx(metrics.fid(known, found), rel=1e-9)
        assert (cell["kid"], cell["kid_deviation"]) == pytest.approx(metrics.kid(known, found), rel=1e-6)
        assert (cell["precision"], cell["recall"]) == pytest.approx(metrics.precision_recall(known, found))
        assert cell["evaluations"] == cell["steps"]
        assert cell["seconds_an_image"] > 0
        assert f"{cell['fid']:.3f}" in told
    markdown = (here / "out/table.md").read_text()
    for words in ("digits-small, hash", "90 images a cell", "floor: FID", "float64", "compare only with each other"):
        assert words in markdown
        assert words in told
    for figure in ("grid.png", "neighbours.png"):
        assert plot.read(here / "out" / figure).shape[2] > 300


def test_the_floor_is_that_of_disjoint_real_pictures(here):
    """Two halves of the real digits are far nearer to each other than this model is, and the floor tells how near."""
    assert ran("evaluate model --steps 2 --eta 0 --n 5000 --out out --batch-size 2500")
    table = json.loads((here / "out/table.json").read_text())
    known = metrics.statistics(features.find("digits-small"), data.load(data.find("digits", 8, 1)))
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    halves = [Statistics.of(known.features[half]) for half in (order[:898], order[898:])]
    assert table["floor"]["n"] == 898
    assert table["floor"]["fid"] == pytest.approx(metrics.fid(*halves), rel=1e-9)
    assert 0.05 < table["floor"]["fid"] < 0.5
    assert table["cells"][0]["fid"] > 10


def test_another_reference_and_held_out_pictures(here):
    real = data.load(data.find("digits", 8, 1))
    for name, some in {"train": real[:300], "test": real[300:380]}.items():
        (here / name).mkdir()
        for k, picture in enumerate(some):
            plot.save(plot.to_pil(picture), here / name / f"{k:03d}.png")
    args = "evaluate model --steps 3 --eta 0 --n 70 --reference train --held-out test --out out"
    assert ran(args)
    table = json.loads((here / "out/table.json").read_text())
    network = features.find("digits-small")
    train, test = (metrics.statistics(network, some) for some in (real[:300], real[300:370]))
    assert table["floor"]["n"] == 70
    assert table["floor"]["fid"] == pytest.approx(metrics.fid(train, test), rel=1e-9)

    # The same reference as mu and sigma alone gives the same FID, and nothing that needs features.
    metrics.write(train, here / "train.npz")
    assert ran("evaluate model --steps 3 --eta 0 --n 70 --reference train.npz --out out")
    (cell,) = json.loads((here / "out/table.json").read_text())["cells"]
    assert cell["fid"] == pytest.approx(table["cells"][0]["fid"], rel=1e-9)
    assert cell["kid"] is None
    assert "| – | – | – |" in (here / "out/table.md").read_text()


def test_bad_input(here, capsys):
    assert "n must be at least 2" in refusal(capsys, "evaluate", "model", "--n", 1)
    assert "steps must be from 1 to 20" in refusal(capsys, "evaluate", "model", "--n", 4, "--steps", 21)
    assert "eta 2.0 is too large" in refusal(capsys, "evaluate", "model", "--n", 4, "--steps", 2, "--eta", 2)
    few = ("evaluate", "model", "--n", 4, "--steps", 2)
    assert "no such feature file; name digits-small" in refusal(capsys, *few, "--features", "none.pt")
    metrics.write(Statistics.of(torch.randn(9, 5)), here / "other.npz")
    told = refusal(capsys, *few, "--reference", "other.npz")
    assert "features of width 64 do not compare with a reference of width 5" in told
    (here / "small").mkdir()
    for k in range(3):
        plot.save(plot.to_pil(torch.full((1, 6, 6), k, dtype=torch.uint8)), here / "small" / f"{k}.png")
    told = refusal(capsys, *few, "--reference", "small")
    assert "small: images of 6×6 are smaller than the model's 8×8" in told
    assert not (here / "evaluations").exists()  # nothing was begun
    ddim.save(Model(tiny_network(), schedule.linear(20, 5e-3, 0.9), (1, 8, 8)), here / "bare")
    assert "name the training images by --reference" in refusal(capsys, "evaluate", "bare", *few[2:])


def test_too_few_images_are_warned_of_by_name(here, capsys):
    (here / "few").mkdir()
    for k, picture in enumerate(data.load(data.find("digits", 8, 1))[:30]):
        plot.save(plot.to_pil(picture), here / "few" / f"{k}.png")
    assert ran("evaluate model --n 40 --steps 2 --eta 0 --reference few --out out")
    said = capsys.readouterr().err
    for what in ("the reference few has 30 images", "a cell has 40 images"):
        assert f"ddim: {what}, no more than the 64 dimensions of the features digits-small" in said
    table = (here / "out/table.md").read_text(encoding="utf-8")
    assert "n is no more than the 64 dimensions of the features" in table


def test_published_figures_stand_beside_what_compares_with_them_only():
    assert published.fid("CIFAR-10", 10, "hat") == 367.43
    assert published.fid("CelebA", 1000, 0.0) == 3.51
    assert published.fid("CIFAR-10", 30, 0.0) is None
    cells = [{"steps": 10, "eta": 0.0, "fid": 14.2}]
    rows = report.grid({"steps": [10, 30], "eta": [0.0], "paper": "CIFAR-10", "cells": cells})
    assert rows == [["FID, S =", "10", "30"], ["η = 0", "14.200", "…"], ["paper, CIFAR-10", "13.36", ""]]
    assert "is not known" in report.comparison({"features": {"name": "own.pt"}, "n": 50_000})
    for n, words in ((50_000, "are those of published FIDs"), (10_000, "do not compare")):
        assert words in report.comparison({"features": {"name": "inception"}, "n": n})


def test_the_papers_figures_need_its_data_its_features_and_its_number():
    def paper(name: str, n: int, data_set: str | None, label: int | None = None) -> str | None:
        model = ddim.load("digits", "cpu")
        statistics = Statistics(torch.zeros(2), torch.eye(2))
        against = Reference("x", features.Features(torch.nn.Identity(), name, "0"), statistics, None, None, data_set)
        settings = {"seed": 0, "spacing": "linear", "solver": "ddim", "clip": False, "label": label, "guidance": 1.0}
        return record(model, against, [], n, settings, [(10, 0.0)], "")["paper"]

    assert paper("inception", 50_000, "CIFAR-10") == "CIFAR-10"
    assert paper("inception", 50_000, "CIFAR-10", label=3) is None
    assert paper("inception", 10_000, "CIFAR-10") is None
    assert paper("cifar10-small", 50_000, "CIFAR-10") is None
    assert paper("inception", 50_000, None) is None


def test_one_evaluation_at_a_time_in_a_folder(here, capsys):
    with held(here / "out"):
        told = refusal(capsys, "evaluate", "model", "--n", 70, "--steps", 2, "--eta", 0, "--out", "out")
    assert "out: another process works in it" in told


def test_reproduce_writes_the_papers_tables_and_figures(here, capsys):
    args = "reproduce model --steps 2 5 --n 70 --reconstructed 6 --batch-size 35 --out out"
    assert ran(args)
    written = (here / "out/report.md").read_text(encoding="utf-8")
    for figure in (
        "figure3.png",
        "figure4.png",
        "figure5/consistency.png",
        "figure6/interpolate.png",
        "table2/reconstruct.png",
    ):
        assert f"({figure})" in written
        assert plot.read(here / "out" / figure).shape[1] > 100
    # Table 2, against encode and decode of the library.
    import ddim

    model = ddim.load(here / "model", "cpu")
    x = data.to_float(data.load(data.find("digits", 8, 1))[:6])
    row = next(line for line in written.splitlines() if "squared error a dimension" in line)
    for steps, cell in zip((2, 5), row.split("|")[2:-1], strict=True):
        back = ddim.decode(model, ddim.encode(model, x, steps), steps)
        assert float(cell) == pytest.approx(((back.clamp(-1, 1) - x) / 2).square().mean().item(), rel=0.06)
