from dataclasses import replace

import numpy as np
import pytest
import torch
from support.models import tiny_model, tiny_network
from torch import nn

from ddim.diffusion import schedule
from ddim.diffusion.clipping import Clip
from ddim.diffusion.model import Model
from ddim.diffusion.process import marginal
from ddim.errors import InputError
from ddim.networks.unet import UNet, UNetConfig

ABAR = schedule.linear()


class Known(nn.Module):
    """A network that knows x_0 and ε, and tells them in one of the three parametrisations; records its indices."""

    def __init__(self, x0: torch.Tensor, eps: torch.Tensor, predicts: str):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.x0, self.eps, self.predicts, self.asked = x0, eps, predicts, []

    def forward(self, x, index):
        self.asked.append(index.tolist())
        level = ABAR[index[0] + 1]
        v = level.sqrt() * self.eps - (1 - level).sqrt() * self.x0
        return {"eps": self.eps, "x0": self.x0, "v": v}[self.predicts]


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_every_parametrisation_becomes_the_same_prediction(predicts: str):
    x0, eps = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network = Known(x0, eps, predicts)
    model = Model(network, ABAR, (1, 4, 4), predicts)
    for t in (1, 20, 1000):
        prediction = model(marginal(x0, eps, ABAR[t]), t)
        torch.testing.assert_close(prediction.x0, x0, rtol=0, atol=1e-10)
        torch.testing.assert_close(prediction.eps, eps, rtol=0, atol=1e-10)
        assert prediction.abar == ABAR[t]
        assert network.asked[-1] == [t - 1] * 3


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_at_time_zero_the_picture_is_x_and_index_zero_is_asked(predicts: str):
    x = torch.rand(3, 1, 8, 8)
    model = tiny_model(predicts=predicts)
    prediction = model(x, 0)
    assert torch.equal(prediction.x0, x)
    assert prediction.abar == 1
    assert prediction.eps.isfinite().all()
    if predicts == "eps":
        assert torch.equal(prediction.eps, model.network(x, torch.zeros(3, dtype=torch.long)))


@pytest.mark.parametrize("clip", [None, Clip(), Clip(below=0.5)])
def test_a_learned_variance_is_carried_beside_the_prediction(clip):
    network = tiny_network(channels=3, out_channels=6)
    model = Model(network, ABAR, (3, 8, 8), clip=clip)
    x = torch.randn(2, 3, 8, 8)
    for t in (500, 0, torch.tensor([700.0, 20.0])):
        prediction = model(x, t)
        assert torch.equal(prediction.variance, network(x, (torch.as_tensor(t) - 1).clamp(min=0).expand(2))[:, 3:])
    assert torch.equal(replace(model, clip=None)(x, 500).eps, network(x, torch.tensor([499, 499]))[:, :3])
    assert tiny_model()(x[:, :1], 500).variance is None


def test_precision_of_x_is_kept():
    model = tiny_model()
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    prediction = model(x, 700)
    assert prediction.x0.dtype == torch.float64
    half = Model(UNet(UNetConfig(**vars(model.network.config))).bfloat16(), ABAR, model.shape)
    assert half(x, 700).x0.dtype == torch.float64


@pytest.mark.parametrize("t", [-1, 1001])
def test_time_out_of_range(t: int):
    with pytest.raises(InputError, match=r"0 to 1000"):
        tiny_model()(torch.zeros(1, 1, 8, 8), t)


@pytest.mark.parametrize("t", ["500", None, True, float("nan"), 1000.5, torch.tensor([3.0, -1.0])])
def test_a_wrong_time_gets_one_line(t):
    with pytest.raises(InputError, match=r"t must be (a number )?from 0 to 1000") as told:
        tiny_model()(torch.zeros(2, 1, 8, 8), t)
    assert "\n" not in str(told.value)


def test_whole_times_are_whole_however_they_are_written():
    model, x = tiny_model(), torch.randn(2, 1, 8, 8)
    whole = model(x, 700)
    for t in (700.0, np.int64(700), torch.tensor(700), torch.tensor([700.0, 700.0])):
        assert torch.equal(model(x, t).eps, whole.eps)
        assert (model(x, t).abar == whole.abar).all()


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_a_time_per_image(predicts: str):
    model, x = tiny_model(predicts=predicts), torch.randn(4, 1, 8, 8)
    times = [0.0, 0.4, 12.0, 700.5]
    both = model(x, torch.tensor(times))
    assert both.x0.dtype == torch.float32
    for k, t in enumerate(times):
        alone = model(x[k : k + 1], t)
        torch.testing.assert_close(both.x0[k : k + 1], alone.x0, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(both.eps[k : k + 1], alone.eps, rtol=1e-4, atol=1e-4)


def test_the_network_is_asked_between_its_indices():
    """At t = 700.5 the embedding's angle is that of index 699.5; below 1 it stays at index 0."""
    model, x = tiny_model(), torch.randn(2, 1, 8, 8)
    assert torch.equal(model(x, 700.5).eps, model.network(x, torch.tensor([699.5, 699.5])))
    assert torch.equal(model(x, 0.3).eps, model.network(x, torch.tensor([0, 0])))


def test_a_model_is_one_line():
    assert repr(tiny_model()) == ("<ddim.Model: 1×8×8, T = 1000, predicts eps, 0.04 M parameters in fp32 on cpu>")
