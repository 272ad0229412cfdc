"""A device without float64, emulated: sampling, encoding, interpolation, the loss and the metrics ask for none."""

from dataclasses import replace

import pytest
import torch
from support.devices import MPS, REFUSAL, Emulated, There
from support.models import tiny_model

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.model import Model
from ddim.evaluation import metrics
from ddim.evaluation.statistics import Statistics
from ddim.training.loss import loss_of


class OnDevice(Model):
    """A model that lies on the device; its weights are told from others by nothing."""

    device = MPS


@pytest.fixture
def there(model: Model) -> OnDevice:
    return OnDevice(model.network, model.abar, model.shape)


def test_the_emulation_refuses_float64_and_gives_the_cpus_numbers():
    x = torch.arange(4.0)
    with Emulated():
        on = x.to("mps")
        assert on.device == MPS
        assert (on + 1).device == MPS
        assert torch.equal((on * torch.tensor(0.5, dtype=torch.float64)).cpu(), x * 0.5)  # a scalar is no tensor there
        for make in (
            on.double,
            lambda: x.double().to("mps"),
            lambda: torch.zeros(1, dtype=torch.float64, device="mps"),
        ):
            with pytest.raises(TypeError, match=REFUSAL):
                make()


CALLS = {
    "sample": lambda m, x: ddim.sample(m, n=2, steps=3),
    "eta": lambda m, x: ddim.sample(m, n=2, steps=3, eta=1.0, clip=True),
    "large": lambda m, x: ddim.sample(m, n=2, steps=3, eta="hat"),
    "heun": lambda m, x: ddim.sample(m, n=2, steps=3, solver="heun"),
    "unipc": lambda m, x: ddim.sample(m, n=2, steps=3, solver="unipc"),
    "between": lambda m, x: ddim.sample(m, n=2, times=[999.5, 500.25, 0]),
    "encode": lambda m, x: ddim.encode(m, x, 3),
    "implicit": lambda m, x: ddim.encode(m, x, 3, solver="implicit"),
    "exact": lambda m, x: ddim.decode(m, ddim.encode(m, x, 3, solver="exact"), 3),
    "interpolate": lambda m, x: ddim.interpolate(m, x[:1], x[1:], 3, 3),
    "ddpm": lambda m, x: ddim.interpolate_ddpm(m, x[:1], x[1:], 500, 3, 3),
    "a time an image": lambda m, x: m(x, torch.tensor([3.0, 700.5])).x0,
}


@pytest.mark.filterwarnings("ignore:implicit encoding")
@pytest.mark.parametrize("name", CALLS)
def test_without_float64_the_images_are_those_of_the_cpu(name: str, model: Model, there: OnDevice):
    x = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    want = CALLS[name](model, x)
    with Emulated():
        found = CALLS[name](there, x.to("mps"))
        assert isinstance(found, There) or name in ("sample", "eta", "large", "heun", "unipc", "between")
        found = found.cpu()
    assert torch.allclose(found, want, atol=2e-3)


def test_the_loss_of_training():
    model, generator = tiny_model(), torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(4, *model.shape, generator=generator) for _ in range(2))
    times = torch.tensor([1, 10, 500, 1000])
    want = loss_of(model.network, x0, times, eps, model.abar)
    with Emulated():
        found = loss_of(model.network, *(v.to("mps") for v in (x0, times, eps)), model.abar)
        assert found.device == MPS
        found = found.cpu()
    assert found == want


def test_kid_and_precision():
    generator = torch.Generator().manual_seed(0)
    real, fake = (Statistics.of(torch.randn(40, 5, generator=generator) + shift) for shift in (0, 1))
    want = metrics.kid(real, fake, 3, 20), metrics.precision_recall(real, fake)
    real, fake = (replace(known, radii={}) for known in (real, fake))
    with Emulated():
        found = metrics.kid(real, fake, 3, 20, MPS), metrics.precision_recall(real, fake, 3, MPS)
    assert found == want


def test_schedules_stay_on_the_cpu():
    with Emulated(), pytest.raises(TypeError, match=REFUSAL):
        schedule.linear().to("mps")
