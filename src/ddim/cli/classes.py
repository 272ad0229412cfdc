"""Options of models that know classes."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The class of the images, for a model that knows classes."""

    label: str | None = None
    """Their class, by its name or number; by default none."""
    guidance: float = 1.0
    """How far to go towards the class: 1 as the network learned it, 0 as without a class, 2 plainer and less various,
    at twice the time."""


@dataclass(frozen=True, kw_only=True)
class ManyClasses(Classes):
    """The class of the images, for a model that knows classes."""

    label: str | None = None
    """Their class, by its name or number, or all for the classes in turn; by default none."""
