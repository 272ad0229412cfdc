"""Calls from Python get the care of the command line: what they cannot take is an InputError of one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.models import tiny_model

import ddim
from ddim.diffusion.model import Model

X = torch.zeros(2, 1, 8, 8)
BYTES = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
NO_MODEL = r"a model is what ddim\.load gives, or has abar and is called .*; got 'digits': ddim\.load\('digits'\) first"


class Bare:
    """A model without a shape."""

    def __init__(self, model: Model):
        self.abar, self.model = model.abar, model

    def __call__(self, x, t):
        return self.model(x, t)


class NaN(Bare):
    def __call__(self, x, t):
        return ddim.Prediction(x * float("nan"), x, self.abar[t])


CALLS = {
    "a string for a model": [
        (lambda m, out: ddim.sample("digits"), NO_MODEL),
        (lambda m, out: ddim.encode("digits", X), NO_MODEL),
        (lambda m, out: ddim.decode("digits", X), NO_MODEL),
        (lambda m, out: list(ddim.walk("digits", X, [10, 0])), NO_MODEL),
        (lambda m, out: ddim.interpolate("digits", X[:1], X[1:]), NO_MODEL),
        (lambda m, out: ddim.interpolate_ddpm("digits", X[:1], X[1:], 10), NO_MODEL),
        (lambda m, out: ddim.evaluate("digits", out), NO_MODEL),
        (lambda m, out: ddim.reconstruct("digits", ["digits"], out), NO_MODEL),
        (lambda m, out: ddim.consistency("digits", out), NO_MODEL),
        (lambda m, out: ddim.sample_files("digits", out), NO_MODEL),
        (lambda m, out: ddim.encode_files("digits", ["digits"], out / "z.safetensors"), NO_MODEL),
        (lambda m, out: ddim.diffusion_sequence("digits", out), NO_MODEL),
        (lambda m, out: ddim.interpolation_figure("digits", out), NO_MODEL),
        (lambda m, out: ddim.prepare("digits"), NO_MODEL),
        (lambda m, out: ddim.prepare(Bare(m)), "prepare needs a ddim.Model, with a network; got Bare"),
        (lambda m, out: ddim.sample_files(Bare(m), out), "a job needs a ddim.Model, .* got Bare"),
        (lambda m, out: ddim.evaluate(Bare(m), out), "a job needs a ddim.Model"),
        (lambda m, out: ddim.save("digits", out), "only a model with a network of ours can be saved"),
        (lambda m, out: ddim.sample(None), "got None"),
    ],
    "images of another kind": [
        (lambda m, out: ddim.encode(m, BYTES), r"numbers in \[−1, 1\]; got uint8: ddim\.data\.to_float makes them"),
        (lambda m, out: ddim.decode(m, BYTES), "got uint8"),
        (lambda m, out: ddim.sample(m, noise=BYTES), "got uint8"),
        (lambda m, out: list(ddim.walk(m, BYTES, [10, 0])), "got uint8"),
        (lambda m, out: ddim.interpolate(m, BYTES[:1], BYTES[1:]), "got uint8"),
        (lambda m, out: ddim.encode(m, np.zeros((2, 1, 8, 8))), r"a tensor \(N, C, H, W\); got ndarray"),
        (lambda m, out: ddim.sample(m, noise="x"), "got 'x'"),
        (lambda m, out: ddim.decode(m, None), "latents are a tensor .* got None"),
        (lambda m, out: ddim.encode(m, torch.full_like(X, float("nan")), 2), "the images hold NaN or infinity"),
        (lambda m, out: ddim.encode(m, torch.full_like(X, 200.0)), r"in \[−1, 1\]; got 200: take x / 127.5 − 1"),
        (lambda m, out: ddim.encode(m, X[:0]), r"no images: the tensor has the shape \(0, 1, 8, 8\)"),
        (lambda m, out: ddim.slerp("a", X, 0.5), "slerp goes between tensors; got 'a'"),
        (lambda m, out: ddim.slerp(X, X, "half"), "fractions are numbers"),
    ],
    "images of another shape": [
        (lambda m, out: ddim.encode(m, X[0]), r"images must be \(N, 1, 8, 8\); got \(1, 8, 8\)"),
        (lambda m, out: ddim.encode(m, torch.zeros(2, 3, 8, 8)), r"must be \(N, 1, 8, 8\); got \(2, 3, 8, 8\)"),
        (lambda m, out: ddim.decode(m, (X, X[:, :, 1:])), r"got \(2, 1, 7, 8\)"),
        (lambda m, out: ddim.sample(m, noise=torch.zeros(2, 1, 9, 9)), r"got \(2, 1, 9, 9\)"),
        (lambda m, out: ddim.interpolate(m, X[:1], torch.zeros(1, 1, 4, 4)), r"got \(1, 1, 4, 4\)"),
        (lambda m, out: ddim.interpolate(m, X[:1], (X[:1], X[:1])), "two latents of one kind"),
        (lambda m, out: ddim.sample(Bare(m), noise=X[0]), r"images must be \(N, C, H, W\)"),
        (lambda m, out: ddim.sample(Bare(m)), r"need a shape \(C, H, W\): pass shape=…; got None"),
        (lambda m, out: ddim.sample(Bare(m), shape=8), r"pass shape=…; got 8"),
        (lambda m, out: ddim.sample(Bare(m), shape=("1", 8, 8)), "pass shape=…"),
    ],
    "numbers that are none": [
        (lambda m, out: ddim.sample(m, seed=None), r"seed must be from 0 to 2\*\*64 - 1; got None"),
        (lambda m, out: ddim.sample(m, seed=0.5), "seed must be .* got 0.5"),
        (lambda m, out: ddim.sample(m, steps="50"), "steps must be a whole number; got '50'"),
        (lambda m, out: ddim.encode(m, X, steps=2.5), "steps must be a whole number; got 2.5"),
        (lambda m, out: ddim.sample(m, n=10**20), "n must be at most 1000000000; got 1000"),
        (lambda m, out: ddim.sample(m, n=10**9), "images take 238 GiB of memory: take fewer, or ddim.sample_files"),
        (lambda m, out: ddim.sample_files(m, out, n=10**12), "n must be at most"),
        (lambda m, out: ddim.sample(m, n=3, noise=X), "noise is for 2 images, and n is 3"),
        (lambda m, out: m(X, torch.tensor([1, 2, 3])), "t is for 3 images; x holds 2"),
        (lambda m, out: ddim.sample(m, n="2"), "n must be a whole number; got '2'"),
        (lambda m, out: ddim.sample(m, n=True), "n must be a whole number; got True"),
        (lambda m, out: ddim.sample(m, batch_size="2"), "batch size must be a whole number"),
        (lambda m, out: ddim.sample(m, eta=float("nan")), "eta must be 0 or more, or 'hat'; got nan"),
        (lambda m, out: ddim.sample(m, eta=[0.5]), "eta must be .* got list"),
        (lambda m, out: ddim.sample(m, times=5), "times must be a list; got 5"),
        (lambda m, out: ddim.sample(m, times=["5", 0]), "t must be a number .* got '5'"),
        (lambda m, out: ddim.interpolate(m, X[:1], X[1:], frames="3"), "frames must be a whole number"),
        (lambda m, out: ddim.interpolate_ddpm(m, X[:1], X[1:], t="3"), "mix at must be a whole number"),
        (lambda m, out: ddim.sample_files(m, out, n="2"), "n must be a whole number"),
        (lambda m, out: ddim.evaluate(m, out, steps=10), "steps must be a list; got 10"),
        (lambda m, out: ddim.evaluate(m, out, eta=0.0), "eta must be a list; got 0.0"),
        (lambda m, out: ddim.evaluate(m, out, steps=["10"]), "steps must be a whole number; got '10'"),
        (lambda m, out: ddim.consistency(m, out, steps=["10", 2]), "steps must be a whole number"),
        (lambda m, out: ddim.reconstruct(m, ["digits"], out, n="3"), "n must be a whole number"),
        (lambda m, out: ddim.train("digits", out, "digits", steps="10"), "steps must be a whole number"),
        (lambda m, out: ddim.train("digits", out, "digits", lr=None), "lr must be a number; got null"),
    ],
    "names that are none": [
        (lambda m, out: ddim.sample(m, spacing=3), "the spacing is a name, one of linear, .*; got 3"),
        (lambda m, out: ddim.sample(m, variance=[]), "unknown variance list"),
        (lambda m, out: ddim.sample(m, solver=3), "a solver is a name"),
        (lambda m, out: ddim.sample(m, clip="yes"), "clip is True, False, None, or a ddim.Clip .* got 'yes'"),
        (lambda m, out: ddim.Clip(float("nan")), "range of clipping must be a number above 0; got nan"),
        (lambda m, out: ddim.Clip("a"), "range of clipping must be a number above 0; got 'a'"),
        (lambda m, out: ddim.sample_files(m, None, n=1), "out is the name of a folder; got None"),
        (lambda m, out: ddim.sample_files(m, out, format="gif"), "unknown format 'gif': choose one of png, npz"),
        (lambda m, out: ddim.load(""), "MODEL is empty"),
        (lambda m, out: ddim.load("a" * 5000), "no such model"),
        (lambda m, out: ddim.train(np.zeros(3), out, "digits"), "data is the name of images, .* got ndarray"),
        (lambda m, out: ddim.train("digits", out, None), "name a preset, one of"),
        (lambda m, out: ddim.load(m), "a model is named by a text or a path; got Model"),
        (lambda m, out: ddim.load(None), "got None"),
        (lambda m, out: ddim.load("digits", imagesize=3), "unknown option 'imagesize': .* did you mean image_size"),
        (lambda m, out: ddim.load("digits", image_size="16"), "image_size must be a whole number"),
        (lambda m, out: ddim.load("digits", "toaster"), "device toaster is not available here"),
        (lambda m, out: ddim.save(m, None), "save takes a folder"),
        (lambda m, out: ddim.save(m, out, torch.int8), "a floating-point dtype; got .* torch.int8"),
        (lambda m, out: ddim.reconstruct(m, 5, out), "images must be a list; got 5"),
    ],
}  # fmt: skip
ALL = [(kind, i) for kind, calls in CALLS.items() for i in range(len(calls))]


@pytest.mark.parametrize(("kind", "i"), ALL, ids=[f"{kind} {i}" for kind, i in ALL])
def test_what_a_call_cannot_take_is_one_line(kind: str, i: int, tmp_path: Path):
    call, line = CALLS[kind][i]
    with pytest.raises(ddim.InputError, match=line) as caught:
        call(tiny_model(), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not list(tmp_path.iterdir())


def test_a_walk_that_ends_in_nan_is_refused(model: Model):
    line = "the walk ended in NaN or infinity: the weights are damaged, or need --precision fp32"
    for call in (
        lambda: ddim.sample(NaN(model), n=1, steps=2, shape=(1, 8, 8)),
        lambda: ddim.decode(NaN(model), X, 2),
        lambda: ddim.interpolate(NaN(model), X[:1], X[1:] + 1, 2, 2),
    ):
        with pytest.raises(ddim.InputError, match=line):
            call()


def test_numbers_of_numpy_and_a_lone_name_are_taken(model: Model, tmp_path: Path):
    want = ddim.sample(model, n=2, steps=3, seed=1, eta=0.5)
    numbers = {"n": np.int64(2), "steps": np.int32(3), "seed": np.uint8(1), "eta": np.float32(0.5)}
    assert torch.equal(ddim.sample(model, **numbers), want)
    assert ddim.reconstruct(model, "digits", tmp_path / "r", steps=[2], n=2)["n"] == 2


def test_images_may_be_named_by_paths(model: Model, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    images = ddim.save_images(torch.rand(12, *model.shape) * 2 - 1, tmp_path / "images")[0].parent
    how = {"reference": images, "held_out": images, "n": 8, "steps": (2, 3)}
    assert ddim.evaluate(model, tmp_path / "e", eta=(0.0,), **how)["reference"]["source"] == str(images)
    assert ddim.reconstruct(model, [images], tmp_path / "r", (2,))["n"] == 12
    report = ddim.reproduce(model, tmp_path / "p", reconstructed=2, **how)
    assert "for a model in memory" in report.read_text().splitlines()[0]
