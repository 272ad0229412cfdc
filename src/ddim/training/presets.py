"""The presets: the paper's settings by data set, and small ones. Nothing here imports torch."""

from typing import Any

from ddim.training.settings import Settings


def preset(**settings: Any) -> Settings:
    """The paper's settings for CIFAR-10, with changes."""
    return Settings().changed(**settings)


DIGITS = preset(
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
)

LSUN = preset(size=256, mult=(1, 1, 2, 2, 4, 4), dropout=0.0, batch_size=64, lr=2e-5)

PRESETS = {
    "digits": DIGITS,
    "digits-improved": DIGITS.changed(schedule="cosine", loss="hybrid"),
    "cifar10": preset(data="uoft-cs/cifar10"),
    # Nichol & Dhariwal 2021, appendix A, for CIFAR-10.
    "cifar10-improved": preset(
        data="uoft-cs/cifar10",
        T=4000,
        schedule="cosine",
        loss="hybrid",
        attention=(16, 8),
        layers=3,
        dropout=0.3,
        lr=1e-4,
        warmup=0,
        steps=500_000,
    ),
    "celeba": preset(size=64, mult=(1, 2, 2, 2, 4), steps=500_000),
    # 96 = 2·48 = 4·24 = 8·12: no 16×16, so the attention sits at the nearest resolution that there is.
    "stl10": preset(size=96, mult=(1, 2, 2, 2, 4), attention=(12,), steps=500_000),
    "bedroom": LSUN.changed(steps=2_400_000),
    "church": LSUN.changed(steps=4_400_000),
    "cifar10-laptop": preset(
        data="uoft-cs/cifar10",
        ch=64,
        mult=(1, 2, 2),
        attention=(8,),
        layers=1,
        groups=16,
        dropout=0.0,
        batch_size=64,
        lr=8e-4,
        warmup=500,
        decay=True,
        ema=0.999,
        steps=24_000,
        save_every=1000,
    ),
}

UNREACHED = ", for days on GPUs; not trained to the end here"
# What each has reached here, where and in what time; docs/results.md has more of the second.
REACHED = {
    "digits": "8×8 digits, 0.43 M parameters: two and a half minutes on 2 CPU cores (the bundled digits, 3,000 steps)",
    "digits-improved": "8×8 digits, learned variance: 4.35 bits/dim, FID 0.51 by digits-small (S = 50, n = 1,000; real "
    "digits: 0.23) after two minutes on one CPU core",
    "cifar10-laptop": "32×32, 4.44 M parameters: the network of the bundled cifar10, which saw as many images in 268 "
    "seconds on an H200 GPU; two CPU cores with bf16 need 3.6 hours for them (extrapolated from 59 images/s a core)",
    "cifar10": f"32×32, 35.7 M parameters: the paper's settings{UNREACHED}",
    "cifar10-improved": f"32×32, learned variance: the settings of improved DDPM{UNREACHED}",
    "celeba": f"64×64: the paper's settings{UNREACHED}",
    "stl10": f"96×96: the paper's settings{UNREACHED}",
    "bedroom": f"256×256: the paper's settings for LSUN bedroom{UNREACHED}",
    "church": f"256×256: the paper's settings for LSUN church{UNREACHED}",
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
