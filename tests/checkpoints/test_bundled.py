"""The models that come with the package."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import ddim
from ddim import images as data
from ddim.checkpoints.bundled_models import bundled
from ddim.checkpoints.saving import WEIGHTS
from ddim.evaluation import features, metrics

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10" / "test.parquet"


@pytest.mark.parametrize(("name", "most"), [("digits", 1e6), ("cifar10", 12e6), ("emoji", 3e6)])
def test_bundled_models_are_small_and_tell_how_they_came_about(name: str, most: float):
    folder = bundled()[name]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < most
    with safe_open(folder / WEIGHTS, "pt") as weights:
        assert all(weights.get_tensor(key).dtype == torch.float16 for key in weights.keys())  # noqa: SIM118
    card = (folder / "README.md").read_text()
    for word in ("ddim train", "images", "minutes"):
        assert word in card
    assert not Path(json.loads((folder / "model_index.json").read_text())["ddim"]["data"]).is_absolute()


@pytest.mark.parametrize("name", ["digits", "cifar10", "emoji"])
def test_bundled_models_come_with_solvers_tuned_to_their_weights(name: str):
    """They end nearer to where many steps do than the same number of steps of what they began with."""
    model = ddim.load(name, "cpu")
    assert model.facts.tuning.model == model.fingerprint
    assert {4, 5} <= set(model.facts.tuning.solvers)
    how = {"n": 8, "seed": 5, "clip": False}
    many = ddim.sample(model, steps=40, spacing="quadratic", solver="dpm++2m", **how)
    for S in (4, 5):
        tuned = ddim.sample(model, steps=S, solver="tuned", **how)
        start = ddim.sample(model, steps=S, spacing="power-1.5", solver="dpm++3m", **how)
        assert (tuned - many).square().mean() < 0.7 * (start - many).square().mean()


def test_samples_of_cifar10_are_smooth_and_colourful_as_pictures_are():
    """Neighbouring pixels of CIFAR-10 correlate by 0.95, and its colours by about 0.9; those of noise by 0."""
    model = ddim.load("cifar10", "cpu")
    images = ddim.sample(model, n=16, steps=10, spacing="quadratic")
    assert images.shape == (16, 3, 32, 32)
    beside = torch.corrcoef(torch.stack([images[..., 1:].flatten(), images[..., :-1].flatten()]))[0, 1]
    assert beside > 0.8
    assert images.std() > 0.3
    assert len({tuple(image.mean((1, 2)).sign().tolist()) for image in images}) > 1


def test_samples_of_emoji_are_of_their_class():
    """On white, as all of Noto's are; faces yellow, with far more red than blue, and signs not."""
    model = ddim.load("emoji", "cpu")
    assert model.predicts == "v"
    samples = {label: ddim.sample(model, n=8, seed=3, label=label) for label in ("smileys-emotion", "symbols")}
    for images in samples.values():
        assert images[..., [0, 0, -1, -1], [0, -1, 0, -1]].mean() > 0.9
    faces, signs = (images[..., 10:22, 10:22].mean((0, 2, 3)) for images in samples.values())  # (3,)
    assert faces[0] - faces[2] > 0.5
    assert abs(signs[0] - signs[2]) < 0.3


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR.exists(), reason="needs the CIFAR-10 test pictures beside the checkout")
def test_samples_of_cifar10_are_nearer_to_cifar10_than_noised_pictures_are():
    """By the bundled features. Uniform noise is at 31, half resolution at 3.2."""
    network = features.find("cifar10-small", torch.device("cpu"))
    real = data.load(data.find(str(CIFAR), 32, 3))
    model = ddim.load("cifar10", "cpu")
    made = data.to_uint8(ddim.sample(model, n=400, steps=10, spacing="quadratic"))
    noised = (
        (real[:400].float() + 40 * torch.randn(400, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
        .clamp(0, 255)
        .byte()
    )
    statistics = [metrics.statistics(network, pictures) for pictures in (real[2000:4000], made, noised)]
    ours, theirs = (metrics.fid(statistics[0], other) for other in statistics[1:])
    assert ours < theirs
