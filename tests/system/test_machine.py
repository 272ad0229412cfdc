import pytest
import torch
import torch.nn.functional as F

from ddim.networks.blocks import GroupNorm, attend
from ddim.system import machine


@pytest.fixture
def highest():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a @ b).double() - a.double() @ b.double()).abs().max().item()


@pytest.mark.parametrize("cpu", ["vendor_id : AuthenticAMD", "vendor_id : GenuineIntel"])
def test_fast_products_keep_float32(highest, monkeypatch, cpu: str):
    """Whatever is chosen on this CPU, products stay as exact as float32 is; bf16 inside would lose three digits."""
    monkeypatch.setattr(machine, "_cpuinfo", lambda: cpu)
    a, b = torch.randn(2, 300, 300, generator=torch.Generator().manual_seed(1))
    before = error(a, b)
    machine.fast_products()
    assert error(a, b) < 10 * before
    assert "AMD" in cpu or torch.get_float32_matmul_precision() == "highest"


def test_a_cpu_that_would_round_is_left_as_it_was(highest, monkeypatch):
    monkeypatch.setattr(machine, "_cpuinfo", lambda: "vendor_id : AuthenticAMD")
    exact = torch.Tensor.__matmul__

    def rounds(a, b):
        medium = torch.get_float32_matmul_precision() == "medium" and a.dtype == torch.float32
        return exact(a.bfloat16(), b.bfloat16()).float() if medium else exact(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounds)
    machine.fast_products()
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("flags", "auto"), [("flags : fma avx512_bf16 x", "bf16"), ("flags : fma avx512f", "fp32"), ("", "fp32")]
)
def test_auto_is_bf16_where_the_cpu_has_it(monkeypatch, flags: str, auto: str):
    monkeypatch.setattr(machine, "_cpuinfo", lambda: flags)
    assert machine.precision_of("auto", "cpu") == auto
    assert [machine.precision_of(p, "cpu") for p in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]


@pytest.mark.parametrize("positions", [16, 40 * 40])  # two plain products, and torch's own
def test_attention(positions: int):
    q, k, v = torch.randn(3, 2, 2, positions, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.einsum("nhid,nhjd->nhij", q, k).mul(8**-0.5).exp()
    expected = torch.einsum("nhij,nhjd->nhid", weights / weights.sum(-1, keepdim=True), v)
    torch.testing.assert_close(attend(q, k, v), expected)


@pytest.mark.parametrize("size", [8, 40, 72])
@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_group_norm_and_its_gradient(size: int, learning: bool, dtype: torch.dtype):
    """Every path that the layout, the precision and the gradient choose is the definition, to the dtype's rounding."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(2, 16, size, size, generator=generator) + 1).to(dtype).to(memory_format=torch.channels_last)
    norm = GroupNorm(4, 16, eps=1e-6).to(dtype).requires_grad_(learning)
    groups = x.double().unflatten(1, (4, 4)).requires_grad_(learning)
    mean, var = groups.mean((2, 3, 4), keepdim=True), groups.var((2, 3, 4), correction=0, keepdim=True)
    expected = ((groups - mean) / (var + 1e-6).sqrt()).flatten(1, 2)
    x.requires_grad_(learning)
    y = norm(x)
    digits = {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y.double(), expected, rtol=digits, atol=digits)
    if learning:
        towards = torch.randn(y.shape, generator=generator)
        (grad,) = torch.autograd.grad(F.silu(y.float()).mul(towards).sum(), x)
        (exact,) = torch.autograd.grad(F.silu(expected).mul(towards).sum(), groups)
        torch.testing.assert_close(grad.double(), exact.flatten(1, 2), rtol=10 * digits, atol=10 * digits)
