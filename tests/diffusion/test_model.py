import pytest
import torch
from support.models import tiny_model, tiny_network
from torch import nn

from ddim.diffusion import schedule
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


def test_learned_variance_channels_are_dropped():
    network = tiny_network(channels=3, out_channels=6)
    model = Model(network, ABAR, (3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(x, 500).eps, network(x, torch.tensor([499, 499]))[:, :3])


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


def test_public_names_are_what_they_were_after_every_import():
    """`ddim.sample` is the function, also once every module has been imported."""
    import ddim.cli
    import ddim.cli.commands.sample

    for name in ("load", "sample", "walk", "encode", "decode", "slerp", "interpolate"):
        assert callable(getattr(ddim, name))
        assert not hasattr(getattr(ddim, name), "__path__")
    assert ddim.Prediction._fields == ("x0", "eps", "abar")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ddim.nothing
