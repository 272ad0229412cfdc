from dataclasses import asdict, replace

import pytest
import torch
from diffusers import UNet2DModel
from support.models import tiny_network

from ddim.errors import InputError
from ddim.networks.blocks import Upsample
from ddim.networks.unet import UNet, UNetConfig
from ddim.training.new_model import build, unet_config
from ddim.training.presets import PRESETS

CONFIGS = {
    "cifar10": UNetConfig(),
    "greyscale": unet_config(PRESETS["digits"]),
    "heads": replace(unet_config(PRESETS["digits"]), down_block_types=("AttnDownBlock2D",) * 2, attention_head_dim=8),
    "diffusers' defaults": UNetConfig(
        **{"block_out_channels": (32, 64), "norm_eps": 1e-5, "flip_sin_to_cos": True, "freq_shift": 0},
        **{"downsample_padding": 1, "attention_head_dim": 8, "mid_block_scale_factor": 2.0},
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ),
    "scale and shift": UNetConfig(
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        resnet_time_scale_shift="scale_shift",
        add_attention=False,
        center_input_sample=True,
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_network_is_diffusers(name: str):
    """Same parameter names, and with the same weights the same output."""
    config = CONFIGS[name]
    ours, theirs = UNet(config).eval(), UNet2DModel(**asdict(config)).eval()
    generator = torch.Generator().manual_seed(0)
    weights = {k: torch.randn(v.shape, generator=generator) * 0.05 for k, v in theirs.state_dict().items()}
    theirs.load_state_dict(weights)
    ours.load_state_dict(weights)
    x = torch.randn(3, config.in_channels, config.sample_size, config.sample_size, generator=generator)
    index = torch.tensor([0, 7, 999])
    with torch.no_grad():
        reference = theirs(x, index).sample
        torch.testing.assert_close(ours(x, index), reference, rtol=1e-5, atol=1e-5)
    assert reference.std() > 1e-3


def test_the_network_with_classes_is_diffusers():
    """The same output for the same class_labels, each with its own."""
    config = replace(CONFIGS["greyscale"], num_class_embeds=4)
    ours, theirs = UNet(config).eval(), UNet2DModel(**asdict(config)).eval()
    generator = torch.Generator().manual_seed(0)
    weights = {k: torch.randn(v.shape, generator=generator) * 0.05 for k, v in theirs.state_dict().items()}
    weights["class_embedding.weight"] *= 20
    theirs.load_state_dict(weights)
    ours.load_state_dict(weights)
    x = torch.randn(1, 1, 8, 8, generator=generator).expand(4, -1, -1, -1)
    index, labels = torch.tensor([7, 7, 7, 999]), torch.tensor([0, 3, 1, 2])
    with torch.no_grad():
        reference = theirs(x, index, class_labels=labels).sample
        torch.testing.assert_close(ours(x, index, labels), reference, rtol=1e-5, atol=1e-5)
    assert (reference[0] - reference[1]).abs().mean() > 1e-3


def test_classes_leave_the_other_weights_of_a_seed():
    plain, told = build(PRESETS["digits"]), build(PRESETS["digits"], ("a", "b"))
    weights = told.network.state_dict()
    assert weights.pop("class_embedding.weight").shape == (3, 128)  # two classes, and none
    assert weights.keys() == plain.network.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in plain.network.state_dict().items())


def test_parameters_of_the_papers_networks():
    """35.7 M for CIFAR-10 and 113.7 M for the 256×256 sets, as published (Ho et al. 2020, appendix B)."""
    with torch.device("meta"):
        sizes = {name: sum(p.numel() for p in UNet(unet_config(PRESETS[name])).parameters()) for name in PRESETS}
    assert round(sizes["cifar10"] / 1e6, 1) == 35.7
    assert round(sizes["bedroom"] / 1e6, 1) == 113.7
    assert sizes["church"] == sizes["bedroom"]


def test_an_untrained_network_predicts_nothing():
    """The zero-initialised last convolution: the first loss of a run is that of ε̂ = 0."""
    network = build(PRESETS["digits"]).network
    assert network(torch.randn(2, 1, 8, 8), torch.tensor([3, 900])).abs().max() == 0


def test_activations_stay_channels_last():
    seen = []
    network = tiny_network(channels=3)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.GroupNorm | Upsample):
            module.register_forward_hook(
                lambda m, i, out: seen.append(out.is_contiguous(memory_format=torch.channels_last))
            )
    network(torch.randn(2, 3, 8, 8), torch.tensor([3, 900]))
    assert len(seen) > 20
    assert all(seen)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_upsampling_is_doubling_and_then_a_convolution(size: tuple[int, int]):
    """The folded sums, values and gradients, against the two operations they replace."""
    generator = torch.Generator().manual_seed(0)
    up = Upsample(6).double()
    torch.nn.init.normal_(up.conv.bias, generator=generator)
    x = torch.randn(2, 6, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    expected = up.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    folded = up(x, None)
    torch.testing.assert_close(folded, expected)
    over = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    wanted = (x, up.conv.weight, up.conv.bias)
    for a, b in zip(
        torch.autograd.grad(folded, wanted, over), torch.autograd.grad(expected, wanted, over), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_patches_are_the_network_on_rearranged_pixels():
    """patch 2 is the plain network whose channels are the four pixels of each square."""
    preset = PRESETS["digits"].changed(patch=2, ch=16, mult=(1, 2))
    patched = build(preset).network.eval()
    config = patched.config
    assert config.patch == 2
    plain = UNet(replace(unet_config(preset.changed(patch=1)), in_channels=4, out_channels=4)).eval()
    generator = torch.Generator().manual_seed(0)
    plain.load_state_dict({k: torch.randn(v.shape, generator=generator) * 0.1 for k, v in plain.state_dict().items()})
    patched.load_state_dict(plain.state_dict())
    x, index = torch.randn(3, 1, 8, 8, generator=generator), torch.tensor([0, 500, 999])
    squares = torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=1)  # (3, 4, 4, 4)
    with torch.no_grad():
        ours, theirs = patched(x, index), plain(squares, index)
    for k, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        torch.testing.assert_close(ours[:, 0, i::2, j::2], theirs[:, k])


def test_patches_have_to_fit():
    with pytest.raises(InputError, match="size 8 cannot be cut into patches of 3 and halved 1 times"):
        unet_config(PRESETS["digits"].changed(patch=3))
