"""Options of models that know classes."""

import re
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The class of the images, for a model that knows classes."""

    label: str | None = None
    """Their class, by its name or number; by default none."""
    guidance: float = 1.0
    """How far to go towards the class, from 0 on: 1 is as the network learned it, 0 is without a class, 2 is plainer
    and less varied, in twice the time."""
    guidance_interval: Annotated[tuple[float, float] | None, arg(metavar="LOW HIGH")] = None
    """The two times, from 0 to T, between which guidance acts; by default at all. At the others the class alone is
    asked, in half the time."""
    guidance_rescale: float = 0.0
    """How far, from 0 to 1, the predicted image keeps the contrast that it has without guidance."""

    def value(self):
        """As `ddim.sample(guidance=…)` takes it."""
        if self.guidance_interval is None and not self.guidance_rescale:
            return self.guidance
        from ddim.diffusion.guidance import Guidance

        return Guidance(self.guidance, self.guidance_interval, self.guidance_rescale)

    def named(self) -> str:
        """What of it stands in the name of a folder."""
        chosen = "" if self.label is None else "-" + re.sub(r"[^\w.-]+", "-", self.label)
        chosen += "" if self.guidance == 1 else f"-guidance{self.guidance:g}"
        chosen += f"-from{self.guidance_interval[0]:g}to{self.guidance_interval[1]:g}" if self.guidance_interval else ""
        return chosen + (f"-rescale{self.guidance_rescale:g}" if self.guidance_rescale else "")


@dataclass(frozen=True, kw_only=True)
class ManyClasses(Classes):
    """The class of the images, for a model that knows classes."""

    label: str | None = None
    """Their class, by its name or number, or all for the classes in turn; by default none."""


@dataclass(frozen=True, kw_only=True)
class EndClasses(Classes):
    """The class of the images, for a model that knows classes."""

    label: Annotated[tuple[str, ...], arg(metavar="CLASS …")] = ()
    """Their class, by its name or number, or one for each end, in its order; by default none."""

    def of_ends(self) -> str | tuple[str, ...] | None:
        """As `ddim.interpolation_figure(label=…)` takes it."""
        return self.label[0] if len(self.label) == 1 else self.label or None
