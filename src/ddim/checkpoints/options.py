"""What a bare file of weights does not say, as options of `ddim.load`, `ddim convert` and `ddim info`."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from ddim.errors import choose
from ddim.system.json import fields_of


@dataclass(frozen=True)
class Options:
    """What a bare file of weights does not say. What is left out is as its authors published it for such a network."""

    image_size: int | None = None
    """Height and width of the images, in pixels."""
    T: int | None = None
    """Number of noise levels."""
    schedule: Literal["linear", "scaled-linear", "cosine"] | None = None
    """Noise schedule."""
    beta_1: float | None = None
    """First β of the linear schedules, below 1."""
    beta_T: float | None = None
    """Last β of the linear schedules, below 1."""
    objective: Literal["eps", "x0", "v"] | None = None
    """What the network predicts."""
    dropout: float | None = None
    """Dropout probability of its training; samples do not use it."""
    num_heads: int | None = None
    """improved- and guided-diffusion: attention heads at every width."""
    num_head_channels: int | None = None
    """guided-diffusion: channels of each head, instead of their number."""
    new_attention_order: bool = False
    """guided-diffusion: q, k and v are split before the heads."""
    rescale_timesteps: bool = True
    """improved- and guided-diffusion: the network sees times as if T were 1000; matters for another T alone."""
    null_label: bool = False
    """The last of its classes stands for no class, as guidance needs it."""
    raw: bool = False
    """The weights as trained instead of their average, where a file holds both."""

    def given(self) -> set[str]:
        """The options that are not left to their defaults."""
        return {f.name for f in fields(self) if getattr(self, f.name) != f.default}


def options_of(values: dict[str, Any]) -> Options:
    """The options of a call. Raises InputError by name."""
    known = {field.name: field for field in fields(Options)}
    for name in values:
        choose("option", name, known)
    return Options(**fields_of(Options, values))


def option(name: str) -> str:
    """How the command line calls an option."""
    return f"--{name.replace('_', '-')}"
