"""What is taken for what is not said: the one rule of precedence for solver, spacing and steps."""

from dataclasses import replace

import pytest
import torch
from support.models import tiny_model

import ddim
from ddim.diffusion.course import DEFAULT, PAPER, manner, sampling_course

FOLDER = ddim.Facts(spacing="leading", last_time=1)  # of diffusers, with set_alpha_to_one false


def test_the_default_is_fast_and_ddim_alone_is_the_papers():
    assert tuple(DEFAULT) == ("unipc", "power-1.5", 10, 0.0)
    assert tuple(PAPER) == ("ddim", "linear", 50, 0.0)


@pytest.mark.parametrize(
    ("facts", "said", "taken"),
    [
        (ddim.Facts(), {}, ("unipc", "power-1.5", 10)),
        (ddim.Facts(), {"steps": 20}, ("unipc", "power-1.5", 20)),
        (ddim.Facts(), {"spacing": "linear"}, ("unipc", "linear", 10)),
        (ddim.Facts(), {"solver": "ddim"}, ("ddim", "linear", 50)),
        (ddim.Facts(), {"solver": "ddim", "spacing": "quadratic"}, ("ddim", "quadratic", 50)),
        (ddim.Facts(), {"solver": "ddim+afs"}, ("ddim+afs", "linear", 50)),
        (ddim.Facts(), {"solver": "dpm++3m"}, ("dpm++3m", "power-1.5", 10)),
        (ddim.Facts(), {"eta": 0.5}, ("ddim", "linear", 50)),
        (ddim.Facts(), {"eta": "hat"}, ("ddim", "linear", 50)),
        (ddim.Facts(), {"eta": 1, "variance": "large", "steps": 9}, ("ddim", "linear", 9)),
        (ddim.Facts(), {"eta": 1, "solver": "dpm++2m"}, ("dpm++2m", "power-1.5", 10)),
        (FOLDER, {}, ("ddim", "leading", 50)),
        (FOLDER, {"spacing": "linear", "steps": 7}, ("ddim", "linear", 7)),
        (FOLDER, {"solver": "dpm++3m"}, ("dpm++3m", "leading", 10)),
    ],
)
def test_the_caller_then_the_folder_then_the_default(facts: ddim.Facts, said: dict, taken: tuple):
    assert tuple(manner(replace(tiny_model(), facts=facts), **said)) == (*taken, said.get("eta", 0.0))


@pytest.mark.parametrize(
    ("images", "size", "said", "taken"),
    [
        (100_000, 16, {}, ("dpm++2m", "power-1.5", 20, 1.0)),
        (100_000, 16, {"steps": 9, "spacing": "linear"}, ("dpm++2m", "linear", 9, 1.0)),
        (100_000, 16, {"eta": 0.0}, ("unipc", "power-1.5", 10, 0.0)),
        (100_000, 16, {"solver": "ddim"}, ("ddim", "linear", 50, 0.0)),
        (100_000, 8, {}, ("unipc", "power-1.5", 10, 0.0)),
        (1_000_000, 16, {}, ("unipc", "power-1.5", 10, 0.0)),
        (None, 16, {}, ("unipc", "power-1.5", 10, 0.0)),
    ],
)
def test_a_network_of_few_images_gets_noise_in_each_step(images: int | None, size: int, said: dict, taken: tuple):
    model = replace(tiny_model(size=size), facts=ddim.Facts(images=images))
    assert tuple(manner(model, **said)) == taken
    assert sampling_course(model, **said).eta == taken[3]
    assert sampling_course(model, times=[900, 10, 0], **said).eta == taken[3]


def test_samples_of_a_young_network_are_what_the_rule_says_and_a_latent_has_one_image():
    model = replace(tiny_model(size=16), facts=ddim.Facts(images=5))
    assert torch.equal(ddim.sample(model, 2), ddim.sample(model, 2, 20, 1.0, "power-1.5", solver="dpm++2m"))
    noise = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ddim.sample(model, noise=noise), ddim.sample(model, noise=noise, eta=0.0))


def test_times_and_the_end_of_a_folder():
    model = tiny_model()
    assert sampling_course(model, times=[900, 10]).times == [900, 10]
    assert sampling_course(model, times=[900, 10]).solver.name == "unipc"
    assert sampling_course(model).times == ddim.schedule.times(1000, 10, "power-1.5")
    folder = replace(model, facts=FOLDER)
    assert sampling_course(folder, 5).times[-1] == 1
    assert sampling_course(folder, 5, "leading").times[-1] == 0
    few = ddim.Model(model.network, ddim.schedule.linear(4, 0.1, 0.5), model.shape)
    assert sampling_course(few).times == [4, 3, 2, 1, 0]


def test_sampling_by_default_is_what_the_rule_says():
    model = tiny_model()
    named = ddim.sample(model, n=3, steps=10, spacing="power-1.5", solver="unipc")
    assert torch.equal(ddim.sample(model, n=3), named)
    assert torch.equal(ddim.sample(model, n=3, eta=0.3), ddim.sample(model, 3, 50, 0.3, "linear", solver="ddim"))
