"""The presets: the paper's settings by data set, and small ones. Nothing here imports torch."""

from typing import Any

from ddim.training.settings import Settings


def preset(**settings: Any) -> Settings:
    """The paper's settings for CIFAR-10, with changes."""
    return Settings().changed(**settings)


PRESETS = {
    "digits": preset(
        data="digits",
        size=8,
        channels=1,
        flip=False,
        ch=16,
        mult=(2, 3),
        attention=(),
        layers=1,
        groups=16,
        dropout=0.0,
        precision="fp32",  # so small a network gains nothing from bf16
        steps=2500,
        lr=2e-3,
        warmup=200,
        decay=True,
        ema=0.999,
        log_every=1,
        sample_every=500,
        save_every=500,
    ),
    "cifar10": preset(data="uoft-cs/cifar10"),
    "celeba": preset(size=64, mult=(1, 2, 2, 2, 4), steps=500_000),
    # 96 = 2·48 = 4·24 = 8·12: no 16×16, so the attention sits at the nearest resolution that there is.
    "stl10": preset(size=96, mult=(1, 2, 2, 2, 4), attention=(12,), steps=500_000),
    "bedroom": preset(
        size=256,
        mult=(1, 1, 2, 2, 4, 4),
        dropout=0.0,
        steps=2_400_000,
        batch_size=64,
        lr=2e-5,
    ),
    "church": preset(
        size=256,
        mult=(1, 1, 2, 2, 4, 4),
        dropout=0.0,
        steps=4_400_000,
        batch_size=64,
        lr=2e-5,
    ),
}

# Of training that begins with a model, and names no preset; the model brings the network.
FINE_TUNING = preset(
    steps=20_000,
    batch_size=64,
    lr=1e-4,
    warmup=200,
    decay=True,
    ema=0.999,
    save_every=1000,
    sample_every=2000,
)
