"""A learned variance in each step: against Improved DDPM's chain over respaced β, diffusers, and the authors' code."""

import json
from dataclasses import replace
from itertools import islice

import diffusers
import pytest
import torch
from support.improved import Chain, public
from support.layouts import Improved, randomise
from support.models import tiny_model

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.noise import draws, normal
from ddim.diffusion.process import learned_log_variance, sigma, sigma_hat
from ddim.diffusion.solvers import with_noise
from ddim.diffusion.walk import last, walk
from ddim.errors import InputError

GRIDS = [(1000, "linear"), (50, "linear"), (17, "quadratic"), (2, "linear")]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A network in improved-diffusion's layout, with a learned variance, and what is made of its file here."""
    network = randomise(Improved(mult=(1, 2), attention=(False, True), layers=1, out=6))
    path = tmp_path_factory.mktemp("improved") / "ema.pt"
    torch.save(network.state_dict(), path)
    return network, ddim.load(path, "cpu", image_size=8)


def noises(steps: int) -> list:
    """Those of the first two images of seed 3, a step each."""
    return list(islice(draws(3, range(2), (3, 8, 8)), steps))


@pytest.mark.parametrize(("steps", "spacing"), GRIDS)
@pytest.mark.parametrize("clip", [True, False])
def test_samples_are_those_of_the_chain_of_respaced_betas(imported, steps: int, spacing: str, clip: bool):
    network, model = imported
    steps = 60 if steps == 1000 else steps  # of a model of 60 levels: all of them
    T = 60 if steps == 60 else 1000
    # Unclipped, a network of random weights leaves [−1, 1] far behind from a level of little signal.
    model = replace(model, abar=schedule.cosine(T) if clip else schedule.linear(T, 1e-4, 0.004))
    times = schedule.times(T, steps, spacing)
    chain = Chain(network, model.abar.numpy(), times[-2::-1], clip)
    expected = chain.sample(normal(3, range(2), (3, 8, 8)).double(), noises(steps))
    with torch.no_grad():
        ours, small = (
            last(ddim.generate(model, range(2), times, 1.0, 3, clip=clip, variance=variance)).x
            for variance in ("learned", "small")
        )
    assert (ours - expected).abs().max() < 1e-4
    assert (ours - small).abs().max() > 1e-2  # the variance is not the posterior's


@pytest.mark.parametrize(("steps", "spacing"), GRIDS[1:])
def test_samples_are_those_of_the_authors_code(imported, steps: int, spacing: str, monkeypatch):
    network, model = imported
    times = schedule.times(1000, steps, spacing)
    theirs = public(model.abar.numpy(), times[-2::-1])
    noise = iter(draws(3, range(2), (3, 8, 8)))
    monkeypatch.setattr(torch, "randn_like", lambda x: next(noise))
    expected = theirs.p_sample_loop(network, (2, 3, 8, 8), noise=normal(3, range(2), (3, 8, 8)))
    monkeypatch.undo()
    ours = ddim.sample(model, 2, steps, 1.0, spacing, seed=3, clip=True, variance="learned", solver="ddim")
    assert (ours - expected.clamp(-1, 1)).abs().max() < 1e-4


@pytest.mark.parametrize("steps", [20, 5])
def test_a_saved_model_opens_as_diffusers_ddpm_pipeline_and_samples_alike(steps: int, tmp_path):
    model = tiny_model(channels=3, size=8, out_channels=6)
    model = replace(model, abar=schedule.linear(20, 1e-3, 0.3))
    folder = ddim.save(model, tmp_path)
    assert json.loads((folder / "scheduler/scheduler_config.json").read_text())["variance_type"] == "learned_range"
    pipeline = diffusers.DDPMPipeline.from_pretrained(folder)
    assert type(pipeline.scheduler) is diffusers.DDPMScheduler
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(2, torch.Generator().manual_seed(5), num_inference_steps=steps, output_type="np").images
    generator = torch.Generator().manual_seed(5)
    noise = (torch.randn(2, *model.shape, generator=generator) for _ in range(steps))  # in the order it draws them
    x, times = next(noise), schedule.times(20, steps, "leading")
    with torch.no_grad():
        ours = last(walk(model, x, times, with_noise("ddim", 1.0, "learned", noise))).x.clamp(-1, 1)
    assert torch.allclose(ours.permute(0, 2, 3, 1) / 2 + 0.5, torch.from_numpy(theirs), atol=1e-5)
    assert ((theirs > 0) & (theirs < 1)).mean() > 0.1  # they are not cut
    again = ddim.load(folder, "cpu")
    assert again.learns_variance
    assert again.fingerprint == model.fingerprint
    first, second = folder / "unet", ddim.save(again, tmp_path / "again") / "unet"
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_variance_lies_between_ddpms_two():
    abar = schedule.cosine(100)
    low, high = 2 * sigma(1.0, abar[50], abar[40]).log(), 2 * sigma_hat(abar[50], abar[40]).log()
    v = torch.tensor([-1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    expected = torch.stack([low, (low + high) / 2, high, high + (high - low) / 2])
    torch.testing.assert_close(learned_log_variance(v, low, high), expected, rtol=0, atol=1e-12)


def test_other_solvers_with_noise_take_it(imported):
    """dpm++2m with η = 1; and a step for each image of its own ends at the same place as all in one."""
    _, model = imported
    how = {"steps": 5, "eta": 1.0, "variance": "learned", "seed": 1}
    assert ddim.sample(model, 2, solver="dpm++2m", **how).isfinite().all()
    x, times = normal(1, range(2), (3, 8, 8)), schedule.times(1000, 4)
    ends = [
        last(walk(model, x, path, with_noise("ddim", 1.0, "learned", draws(1, range(2), (3, 8, 8))))).x
        for path in (times, [torch.tensor([float(t)] * 2) for t in times])
    ]
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-4)


def test_what_has_no_learned_variance_is_refused(imported, tmp_path):
    _, learned = imported
    plain = tiny_model()
    for call in (ddim.sample, lambda m, **how: ddim.sample_files(m, tmp_path / "out", **how)):
        with pytest.raises(InputError, match="has not learned its variance: choose variance small or large"):
            call(plain, n=1, steps=2, eta=1, variance="learned")
        for eta in (0, 0.5):
            with pytest.raises(InputError, match=f"variance learned needs eta 1; got eta {eta:g}"):
                call(learned, n=1, steps=2, eta=eta, variance="learned")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="has not learned its variance"):  # where only the step can tell
        list(walk(plain, torch.zeros(1, 1, 8, 8), [5, 2], with_noise("ddim", 1.0, "learned", iter([1.0]))))
    assert ddim.sample(learned, n=1, steps=2).isfinite().all()  # by default there is no noise in a step
