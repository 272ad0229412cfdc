"""Networks that predict v instead of ε: their loss, what is kept of them, and that they learn the same images."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler
from support.command_line import refused
from support.models import tiny_model, tiny_network
from support.training import OPTIONS, TINY, fit, losses
from torch import nn

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.process import marginal
from ddim.images.batches import order
from ddim.training.held_out import LEVELS, losses_by_level
from ddim.training.loss import loss_of, loss_of_v, randomness

ABAR = schedule.linear()
V = TINY.changed(predict="v")


def batch():
    x0, eps = torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return x0, torch.tensor([1, 2, 300, 500, 999, 1000]), eps


def test_the_loss_is_of_v_as_diffusers_has_it():
    x0, times, eps = batch()
    theirs = DDIMScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    network = tiny_network()
    x_t = theirs.add_noise(x0, eps, times - 1)
    v = theirs.get_velocity(x0, eps, times - 1)
    want = (network(x_t, times - 1) - v).square().mean().item()
    assert loss_of_v(network, x0, times, eps, ABAR).item() == pytest.approx(want, rel=1e-4)


class Exact(nn.Module):
    """The network of a single known image: what it answers leaves no loss."""

    def __init__(self, x0: torch.Tensor, predicts: str):
        super().__init__()
        self.x0, self.predicts = x0, predicts

    def forward(self, x, index):
        level = ABAR.float()[index + 1][:, None, None, None]
        eps = (x - level.sqrt() * self.x0) / (1 - level).sqrt()
        return eps if self.predicts == "eps" else level.sqrt() * eps - (1 - level).sqrt() * self.x0


def test_who_knows_the_image_has_no_loss():
    x0, times, eps = batch()
    x0 = x0[:1].expand(6, -1, -1, -1)
    assert loss_of_v(Exact(x0, "v"), x0, times, eps, ABAR).item() < 1e-6
    assert loss_of(Exact(x0, "eps"), x0, times, eps, ABAR).item() < 1e-6
    assert loss_of_v(Exact(x0, "eps"), x0, times, eps, ABAR).item() > 0.1


def test_held_out_losses_are_of_v_as_those_of_training_are():
    """The two stand on one axis."""
    model = replace(tiny_model(), predicts="v")
    images = torch.randint(0, 256, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    found, expected = losses_by_level(model, images, None, 5, Accelerator(cpu=True)), torch.zeros(3, LEVELS)
    for k in range(3):
        eps = torch.randn(LEVELS, 1, 8, 8, generator=torch.Generator().manual_seed(5 * 2**20 + k))
        for j in range(LEVELS):
            t = int((j + 0.5) * 1000 / LEVELS)
            a = model.abar[t].item()
            x0 = images[k].float() / 127.5 - 1
            v = model.network((a**0.5 * x0 + (1 - a) ** 0.5 * eps[j])[None], torch.tensor([t - 1]))[0]
            expected[k, j] = (v - a**0.5 * eps[j] + (1 - a) ** 0.5 * x0).square().mean()
    assert found == pytest.approx(expected.mean(0).tolist(), rel=1e-4)


def test_training_on_v_begins_at_its_mean_square_and_learns(alone):
    """v̂ = 0 before the first step."""
    first, _ = fit(V, steps=1)
    times, eps, _ = randomness(V.optimiser.seed, 1, (16, 1, 8, 8), 1000)
    images = ddim.data.load(ddim.data.find("digits", 8, 1))
    x0 = ddim.data.to_float(images[next(order(len(images), 16, V.optimiser.seed))])
    level = ABAR.float()[times][:, None, None, None]
    assert first[0] == pytest.approx(marginal(eps, -x0, level).square().mean().item(), rel=1e-5)
    many, _ = fit(V, steps=30)
    assert sum(many[-5:]) < 0.7 * sum(many[:5])


def test_a_run_on_v_is_a_model_of_v_and_resumes(ddim_cli, tmp_path: Path):
    how = ("train", "digits", "--predict", "v", *OPTIONS)
    assert ddim_cli(*how, "--steps", 8, "--out", "whole").returncode == 0
    assert ddim_cli(*how, "--steps", 5, "--out", "half").returncode == 0
    assert ddim_cli("train", "--out", "half", "--resume", "--steps", 8).returncode == 0
    assert losses(tmp_path / "half") == losses(tmp_path / "whole")
    model = ddim.load(tmp_path / "half", "cpu")
    assert model.predicts == "v"
    kept = json.loads((tmp_path / "half/scheduler/scheduler_config.json").read_text())
    assert kept["prediction_type"] == "v_prediction"
    assert ddim_cli("sample", "half", "--n", 2, "--steps", 2).returncode == 0
    assert ddim_cli("train", "--init", "half", "--data", "digits", "--out", "more", *OPTIONS[-4:], "--steps", 2,
                    "--batch-size", 4).returncode == 0  # fmt: skip
    assert ddim.load(tmp_path / "more", "cpu").predicts == "v"
    refused(ddim_cli(*how, "--loss", "hybrid", "--out", "no"), "--loss hybrid needs a network that predicts ε")
