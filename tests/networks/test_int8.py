import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ddim
from ddim.diffusion.schedule import grid
from ddim.diffusion.walk import last
from ddim.errors import InputError
from ddim.images.pixels import to_uint8
from ddim.networks.acceleration.int8 import Int8Conv, quantised
from ddim.system import machine

pytestmark = pytest.mark.skipif(not machine.native_int8(), reason="needs a CPU with VNNI")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("how", [{"padding": 1}, {"stride": 2, "bias": False}, {"kernel_size": 1}], ids=str)
def test_the_convolution_is_that_of_the_rounded_numbers(dtype: torch.dtype, how: dict):
    """Against bytes rounded here and convolved in float64; values outside the range are the nearest inside."""
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(32, 48, **{"kernel_size": 3, **how}).requires_grad_(False)
    low, high = -0.3, 4.1
    x = (2 * torch.randn(3, 32, 9, 9, generator=generator)).to(dtype).to(memory_format=torch.channels_last)
    y = Int8Conv(conv, low, high)(x)
    step = (high - low) / 255
    zero = round(-low / step)
    rounded = ((x.double() / step + zero + 0.5).floor().clamp(0, 255) - zero) * step
    steps = conv.weight.double().abs().amax((1, 2, 3), keepdim=True) / 127
    weight = (conv.weight.double() / steps).round() * steps
    bias = None if conv.bias is None else conv.bias.double()
    expected = F.conv2d(rounded, weight, bias, conv.stride, conv.padding)
    assert y.dtype == dtype
    digits = {torch.float32: 1e-3, torch.bfloat16: 1e-2}[dtype]  # a value on the edge of two bytes may fall either way
    torch.testing.assert_close(y.double(), expected, rtol=digits, atol=digits)


def pictures(model, images) -> torch.Tensor:
    with torch.no_grad():
        return last(ddim.generate(model, images, grid(model.abar, 20))).x


def test_digits_in_bytes_are_nearly_the_digits():
    model, coarse = ddim.load("digits", "cpu"), quantised(ddim.load("digits", "cpu"))
    inner = [module for module in coarse.network.modules() if isinstance(module, Int8Conv)]
    assert len(inner) > 10
    assert type(coarse.network.conv_in) is nn.Conv2d
    difference = (pictures(coarse, range(16)) - pictures(model, range(16))).square().mean().sqrt()
    assert 1e-4 < difference < 0.05  # of pixels in [-1, 1]


def test_ranges_are_the_models_so_a_picture_is_the_same_in_any_batch():
    model, again = (ddim.prepare(ddim.load("digits", "cpu"), "int8") for _ in range(2))
    together = to_uint8(pictures(model, range(6))).int()
    assert torch.equal(to_uint8(pictures(again, range(6))).int(), together)
    assert (to_uint8(pictures(model, [4])).int() - together[4:5]).abs().max() <= 1


def test_the_command_line(ddim_cli):
    result = ddim_cli("sample", "digits", "--n", 2, "--steps", 2, "--precision", "int8", "--out", "out")
    assert "digits: on cpu in int8" in result.stdout, result.stderr


def test_a_cpu_without_bytes_is_told(monkeypatch):
    monkeypatch.setattr(machine, "_cpuinfo", lambda: "flags : fma avx2")
    with pytest.raises(InputError, match="int8 needs a CPU"):
        ddim.prepare(ddim.load("digits", "cpu"), "int8")
