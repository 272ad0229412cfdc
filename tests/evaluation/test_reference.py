"""What samples are held against: the data as other tools keep them, damaged images, and whose data they are."""

import json

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from support.models import tiny_network

import ddim
from ddim import images as data
from ddim import plots
from ddim.diffusion import schedule
from ddim.diffusion.model import Model
from ddim.evaluation import features, published, report
from ddim.evaluation.reconstruction import paper_of
from ddim.images import ArrayImages
from ddim.images.selection import Selection
from ddim.images.sources import Table


@pytest.fixture
def model(tmp_path) -> Model:
    """A model of 20 levels that was trained on nothing that is known, kept in the folder `model`."""
    model = Model(tiny_network(), schedule.linear(20, 5e-3, 0.9), (1, 8, 8))
    ddim.save(model, tmp_path / "model")
    return model


def digits(n: int) -> torch.Tensor:
    return data.load(data.find("digits", 8, 1))[:n]


def folder_of(images: torch.Tensor, path) -> None:
    path.mkdir()
    for k, image in enumerate(images):
        plots.save(plots.to_pil(image), path / f"{k:03d}.png")


def test_fid_against_statistics_of_other_tools_is_scipys(model, tmp_path, ddim_cli):
    """As pytorch-fid computes it: numpy's mean and covariance, scipy's root of the product."""
    real = features.find("digits-small")(digits(300)).double().numpy()
    mu, sigma = real.mean(0), np.cov(real, rowvar=False)
    np.savez(tmp_path / "pytorch-fid.npz", mu=mu, sigma=sigma)
    np.savez(tmp_path / "lucidrains.npz", m2=mu, s2=sigma)
    np.savez(tmp_path / "score_sde.npz", pool_3=real)
    np.savez(tmp_path / "samples.npz", arr_0=digits(300).permute(0, 2, 3, 1).numpy())
    folder_of(digits(300), tmp_path / "folder")
    found = {}
    for source in ("pytorch-fid.npz", "lucidrains.npz", "score_sde.npz", "samples.npz", "folder"):
        done = ddim_cli("evaluate", "model", "--reference", source, "--n", 80, "--steps", 3, "--eta", 0, "--out", "out")
        assert done.returncode == 0, done.stderr
        found[source] = json.loads((tmp_path / "out/table.json").read_text())
    shards = sorted((tmp_path / "out/cells/S3-eta0.0").glob("*.npy"))
    made = torch.from_numpy(np.concatenate([np.load(shard) for shard in shards])).permute(0, 3, 1, 2)
    fake = features.find("digits-small")(made).double().numpy()
    other = np.cov(fake, rowvar=False)
    root = sqrtm(sigma @ other).real
    expected = ((mu - fake.mean(0)) ** 2).sum() + np.trace(sigma) + np.trace(other) - 2 * np.trace(root)
    for source, table in found.items():
        (cell,) = table["cells"]
        assert cell["fid"] == pytest.approx(expected, rel=1e-6), source
        assert (cell["kid"] is None) == (source in ("pytorch-fid.npz", "lucidrains.npz"))
        assert table["reference"]["n"] == (0 if cell["kid"] is None else 300)
    np.savez(tmp_path / "other.npz", mean=mu, cov=sigma)
    done = ddim_cli("evaluate", "model", "--reference", "other.npz", "--n", 80, "--steps", 3, "--eta", 0)
    assert done.returncode == 2
    assert "its keys are mean, cov; known are mu and sigma, m2 and s2, pool_3, arr_0" in done.stderr


def test_broken_images_are_named_or_left_out(model, tmp_path, ddim_cli):
    """The first one too, by evaluate and by reconstruct."""
    folder_of(digits(90), tmp_path / "real")
    (tmp_path / "real" / "000.png").write_bytes(b"junk")
    few = ("--n", 70, "--steps", 2, "--eta", 0)
    done = ddim_cli("evaluate", "model", "--reference", "real", *few, "--out", "a")
    assert done.returncode == 2
    assert "000.png: not a readable image (cannot be identified); remove it or pass --skip-broken" in done.stderr
    done = ddim_cli("evaluate", "model", "--reference", "real", *few, "--skip-broken", "--out", "a")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "a/table.json").read_text())["reference"]["n"] == 89
    assert "left out 1 of 90 images" in done.stderr

    done = ddim_cli("reconstruct", "model", "real", "--steps", 2, "--out", "b")
    assert done.returncode == 2
    assert "000.png: not a readable image" in done.stderr
    done = ddim_cli("reconstruct", "model", "real", "--steps", 2, "--skip-broken", "--out", "b")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "b/reconstruct.json").read_text())
    assert found["n"] == 89
    x = data.to_float(digits(90)[1:])
    back = ddim.decode(model, ddim.encode(model, x, 2), 2).clamp(-1, 1)
    assert found["rows"][0]["mse"] == pytest.approx(((back - x) / 2).double().square().mean().item(), rel=1e-5)


def binary(path, images: int, name: str) -> str:
    """A file of CIFAR-10's binary form: zeros, a label before each."""
    path.mkdir(exist_ok=True)
    (path / name).write_bytes(bytes(images * (1 + 3 * 32 * 32)))
    return str(path)


def test_the_papers_data_is_known_by_itself_and_not_by_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for k in range(1, 6):
        whole = binary(tmp_path / "anything", 10_000, f"data_batch_{k}.bin")
    binary(tmp_path / "anything", 10_000, "test_batch.bin")
    part = binary(tmp_path / "cifar10", 10_000, "data_batch_1.bin")

    def known(source: str, size: int = 32, channels: int = 3, split: str = "train") -> str | None:
        return published.data_set(source, data.find(source, size, channels), split)

    assert known(whole) == "CIFAR-10"
    assert known(f"{whole}:test", split="test") == "CIFAR-10"
    assert known(f"{whole}:test") is None  # the paper's reference is the training images
    assert known(part) is None  # a fifth of it
    assert known(whole, size=16) is None  # the same images, but smaller, or grey
    assert known(whole, channels=1) is None

    # A folder, and a table, that are only called so.
    (tmp_path / "uoft-cs").mkdir()
    folder_of(torch.zeros(3, 3, 32, 32, dtype=torch.uint8), tmp_path / "uoft-cs/cifar10")
    assert known("uoft-cs/cifar10") is None
    (tmp_path / "img_align_celeba").mkdir()
    plots.save(plots.to_pil(torch.zeros(3, 218, 178, dtype=torch.uint8)), tmp_path / "img_align_celeba/1.png")
    assert known("img_align_celeba", 64) is None
    array = ArrayImages("uoft-cs/cifar10", np.zeros((50_000, 32, 32, 3), np.uint8), "", 32, 3)
    assert published.data_set("uoft-cs/cifar10", array) is None


def test_the_hubs_cifar10_is_the_papers(tmp_path, monkeypatch):
    """As the `datasets` library gives it; another id, or the same name for a folder at hand, is not."""
    monkeypatch.chdir(tmp_path)
    hub = Table.__new__(Table)  # its table is not at hand here
    hub.size, hub.channels = 32, 3
    monkeypatch.setattr(Table, "__len__", lambda self: 50_000)
    assert published.data_set("uoft-cs/cifar10", hub) == "CIFAR-10"
    assert published.data_set("uoft-cs/cifar10:train", hub) == "CIFAR-10"
    assert published.data_set("my/cifar10", hub) is None
    monkeypatch.setattr(Table, "__len__", lambda self: 10_000)
    assert published.data_set("uoft-cs/cifar10:test", hub, "test") == "CIFAR-10"
    assert published.data_set("uoft-cs/cifar10", hub) is None
    (tmp_path / "uoft-cs").mkdir()
    (tmp_path / "uoft-cs/cifar10").mkdir()
    assert published.data_set("uoft-cs/cifar10:test", hub, "test") is None


def test_the_papers_table_2_stands_beside_its_test_images_alone(tmp_path):
    source = binary(tmp_path / "binary", 10_000, "test_batch.bin")
    for k in range(1, 6):
        binary(tmp_path / "binary", 10_000, f"data_batch_{k}.bin")
    assert paper_of(Selection([f"{source}:test"], (3, 32, 32))) == "CIFAR-10"
    assert paper_of(Selection([f"{source}/test_batch.bin"], (3, 32, 32))) == "CIFAR-10"
    assert paper_of(Selection([source], (3, 32, 32))) is None
    assert paper_of(Selection([f"{source}:test"], (3, 16, 16))) is None
    assert paper_of(Selection(["digits"], (3, 32, 32))) is None


def written(n: int, known: int, fids: tuple[float, ...], paper: str | None = None) -> dict:
    """A report of one η, as table.json holds it."""
    cells = [
        {"steps": S, "eta": 0.0, "evaluations": 2 * S, "fid": fid, "seconds_an_image": 0.1, "kid": None}
        for S, fid in zip((10, 20), fids, strict=False)
    ]
    return {
        "model": {"source": "m", "fingerprint": "f", "weights": "w"},
        "features": {"name": "digits-small", "hash": "h", "width": 64},
        "reference": {"source": "r", "n": known, "data_set": paper},
        "floor": {"fid": 1.0, "n": 30, "what": "x"},
        **{"torchmetrics": "1", "n": n, "seed": 0, "spacing": "linear", "solver": "heun", "clip": False},
        **{"paper": paper, "device": "cpu", "arithmetic": "fp32", "steps": [10, 20], "eta": [0.0], "cells": cells},
    }


def test_a_report_says_where_its_figures_mean_nothing():
    for n, known, words in ((16, 1797, "n is no"), (70, 40, "the number of reference images is no")):
        lines = "\n".join(report.facts(written(n, known, (2.0, 0.5))))
        assert f"{words} more than the 64 dimensions of the features: these figures mean nothing" in lines
        assert "1 of 2 cells lie below the floor" in lines
    lines = "\n".join(report.facts(written(70, 1797, (2.0, 0.5))))
    assert "mean nothing" not in lines
    assert "1 of 2 cells lie below the floor: so few samples" in lines
    assert "see neighbours.png" in "\n".join(report.facts(written(5000, 1797, (2.0, 0.5))))
    assert "below the floor" not in "\n".join(report.facts(written(5000, 1797, (2.0, 1.5))))


def test_the_figure_counts_evaluations_and_draws_one_scale(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **how: (drawn.append(self), path.write_bytes(b"x")))
    report.figure(written(5000, 1797, (2.0, 0.5)), tmp_path / "a.png")
    report.figure(written(5000, 1797, (2.0, 0.5), "CIFAR-10"), tmp_path / "b.png")
    report.figure(written(16, 1797, (2.0, 0.5)), tmp_path / "c.png")
    (own, paper, few) = (figure.axes[0] for figure in drawn)
    samples, floor = own.lines  # nothing of the paper's
    assert list(samples.get_xdata()) == [20, 40]  # heun: two evaluations a step
    assert list(samples.get_ydata()) == [2.0, 0.5]
    assert list(floor.get_ydata()) == [1.0, 1.0]
    assert own.get_xlabel() == "network evaluations"
    assert own.get_title() == ""
    assert [list(line.get_ydata()) for line in paper.lines if line.get_linestyle() == "--"] == [[13.36, 6.84]]
    assert few.get_title() == "means nothing: n is no more than the 64 dimensions of the features"
