import shutil
from dataclasses import replace

import pytest
import torch
from support.models import labelled_model, tiny_network
from torch import nn

import ddim
from ddim.diffusion.schedule import grid
from ddim.diffusion.walk import last
from ddim.errors import InputError
from ddim.images.pixels import to_uint8
from ddim.networks.acceleration.compiled import Padded, compiled
from ddim.networks.acceleration.int8 import quantised
from ddim.networks.acceleration.packed import Folded, PackedConv, folded, packed
from ddim.networks.blocks import doubled
from ddim.networks.lucidrains_unet import LucidConfig, LucidUNet

SMALL = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "dim": 8, "init_dim": 8, "block_out_channels": (8, 16)}
SMALL |= {"full_attention": (False, True), "heads": (2, 2), "head_dims": (4, 4)}


class Recorder(nn.Module):
    """A network that writes every result to one place, as a captured graph does, and keeps the sizes it was asked."""

    def __init__(self, network: nn.Module, size: int):
        super().__init__()
        self.network, self.sizes, self.place = network, [], torch.empty(size, *(1, 8, 8))

    def forward(self, x, index):
        self.sizes.append(len(x))
        return self.place.copy_(self.network(x, index))


def test_a_ragged_batch_is_padded_and_its_rows_are_the_callers_own():
    network = tiny_network()
    recorder = Recorder(network, 5)
    padded = Padded(recorder)
    x, index = torch.randn(5, 1, 8, 8), torch.arange(5) * 200
    whole, ragged = padded(x, index), padded(x[:3] + 1, index[:3])
    assert recorder.sizes == [5, 5]
    torch.testing.assert_close(whole, network(x, index))
    torch.testing.assert_close(ragged, network(x[:3] + 1, index[:3]))


@pytest.mark.parametrize("pad", [True, False])
def test_only_padding_saves_a_ragged_batch_from_another_compilation(pad: bool):
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append([tuple(x.shape) for x in inputs])
        return graph.forward

    model = ddim.load("digits", "cpu")
    network = torch.compile(model.network, backend=backend, dynamic=False)
    asked = replace(model, network=Padded(network) if pad else network)
    pictures = ddim.sample(asked, n=4, steps=2, batch_size=4)
    first = len(graphs)
    assert first
    ragged = ddim.sample(asked, n=6, steps=2, batch_size=4)
    assert (len(graphs) == first) == pad
    torch.testing.assert_close(pictures, ddim.sample(model, n=4, steps=2))
    torch.testing.assert_close(ragged, ddim.sample(model, n=6, steps=2))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="compiling for a CPU needs a C++ compiler")
def test_a_compiled_network_samples_the_same_pictures():
    torch._dynamo.reset()
    model = ddim.load("digits", "cpu")
    fast = replace(model, network=compiled(model.network))
    torch.testing.assert_close(
        ddim.sample(fast, n=5, steps=4, batch_size=3), ddim.sample(model, n=5, steps=4), rtol=1e-4, atol=1e-4
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_walk_on_a_gpu_never_waits_for_it(eta: float):
    model = ddim.load("digits", "cpu").to("cuda")
    fast = replace(model, network=compiled(model.network))
    with torch.no_grad():
        for each in (model, fast):
            list(ddim.generate(each, range(3), grid(each.abar, 3), eta))  # compiles, and warms up
            walk = ddim.generate(each, range(3), grid(each.abar, 3), eta)
            next(walk)
            torch.cuda.set_sync_debug_mode("error")
            try:
                x = last(walk).x
            finally:
                torch.cuda.set_sync_debug_mode("default")
            expected = ddim.sample(ddim.load("digits", "cpu"), n=3, steps=3, eta=eta)
            torch.testing.assert_close(x.clamp(-1, 1).cpu(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["unet", "lucidrains"])
def test_packed_convolutions_compute_the_same(dtype: torch.dtype, kind: str):
    def network() -> nn.Module:
        torch.manual_seed(0)
        made = tiny_network() if kind == "unet" else LucidUNet(LucidConfig(**SMALL))
        return made.requires_grad_(False).to(dtype)

    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert not any(isinstance(module, PackedConv) for module in packed(network(), least=0).modules())
        pytest.skip("this CPU cannot pack bf16: the network is left as it is")
    plain, fast = network(), packed(network(), least=0)
    assert any(isinstance(module, PackedConv) for module in fast.modules())
    assert not any(type(module) in (nn.Conv2d, Folded) for module in fast.modules())
    for n in (4, 1, 4):  # packed for 4
        x, index = torch.randn(n, 1, 8, 8).to(dtype), torch.full((n,), 300)
        with torch.no_grad():
            digits = {torch.float32: 1e-4, torch.bfloat16: 2e-2}[dtype]
            torch.testing.assert_close(fast(x, index), plain(x, index), rtol=digits, atol=digits)


def test_a_folded_network_computes_the_same_and_is_folded_before_it_is_rounded():
    network = tiny_network().requires_grad_(False)
    x, index = torch.randn(3, 1, 8, 8), torch.tensor([3, 500, 900])
    expected = network(x, index)
    kernel = doubled(network.up_blocks[0].upsamplers[0].conv.weight)
    torch.testing.assert_close(folded(network)(x, index), expected, rtol=0, atol=0)
    made = network.up_blocks[0].upsamplers[0]
    assert isinstance(made, Folded)
    assert torch.equal(network.to(torch.bfloat16).up_blocks[0].upsamplers[0].weight, kernel.bfloat16())


def test_faster_networks_are_told_classes_too():
    """Padded, packed, of 8 bits: each class stays itself, and no class too."""
    plain, known = labelled_model(), {}
    known["padded"] = replace(plain, network=Padded(plain.network))
    known["packed"], known["int8"] = labelled_model(), quantised(labelled_model())
    packed(known["packed"].network, least=0)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 2])
    far = (plain(x, 500).eps - plain(x, 500, labels).eps).abs().max()
    assert far > 1e-2
    for name, model in known.items():
        assert (model.classes, model.null_label) == (plain.classes, 3)
        within = 0.1 if name == "int8" else 1e-4
        for n in (4, 3):
            assert (model(x[:n], 500, labels[:n]).eps - plain(x[:n], 500, labels[:n]).eps).abs().max() < within
            assert (model(x[:n], 500).eps - plain(x[:n], 500).eps).abs().max() < within
        assert torch.equal(model(x, 500).eps, model(x, 500, torch.full((4,), 3)).eps)
        assert (model(x, 500).eps - model(x, 500, labels).eps).abs().max() > 0.5 * far


def test_prepared_models_keep_their_classes():
    plain = ddim.sample(labelled_model(), n=6, steps=5, label="all", guidance=1.5)
    for precision in ("fp32", "bf16"):
        model = ddim.prepare(labelled_model(), precision)
        assert model.classes == ("cat", "dog", "ship")
        assert (ddim.sample(model, n=6, steps=5, label="all", guidance=1.5) - plain).abs().mean() < 0.05
    without = labelled_model(null=False)  # measured on classes: it knows nothing else
    assert ddim.sample(quantised(without), n=2, steps=2, label=1).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_picture_is_the_same_in_any_batch_whatever_the_precision(precision: str):
    model = ddim.prepare(ddim.load("digits", "cpu"), precision)
    together, alone = (to_uint8(ddim.sample(model, n=7, steps=10, batch_size=size)).int() for size in (7, 2))
    assert (together - alone).abs().max() <= 1


def test_a_prepared_model_says_its_precision_and_keeps_its_name():
    """The fingerprint is that of the float32 weights, whatever they are rounded to; bf16 is close, fp32 the same."""
    plain = ddim.sample(ddim.load("digits", "cpu"), n=4, steps=10)
    name = ddim.load("digits", "cpu").fingerprint
    for precision, apart in (("fp32", 1e-4), ("bf16", 0.3)):
        model = ddim.prepare(ddim.load("digits", "cpu"), precision)
        assert (model.facts.precision, model.fingerprint) == (precision, name)
        assert (ddim.sample(model, n=4, steps=10) - plain).abs().max() < apart
    with pytest.raises(InputError, match="unknown precision 'fp8'"):
        ddim.prepare(ddim.load("digits", "cpu"), "fp8")
