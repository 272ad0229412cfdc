"""The model that a command names, ready on the device and in the precision of its options; what is refused before."""

from pathlib import Path

from ddim.cli.options import Machine
from ddim.system.files import check_own
from ddim.system.messages import say


def check_first(
    name: str, settings: Path | None = None, labels: tuple[str | None, ...] = (), mask: Path | None = None
) -> None:
    """Raise InputError for what cannot be done with a model, as far as that can be known before its weights are read.

    settings: the file with the settings of a job, in the folder that it is to write.  labels: classes of the model.
    mask: an image file of the model's size.
    """
    if settings:
        check_own(settings)
    labels = tuple(label for label in labels if label is not None)
    if not labels and not mask:
        return
    from ddim.checkpoints.loading import outline
    from ddim.diffusion.guidance import labels_of

    if (model := outline(name)) is None:
        return
    for label in labels:
        labels_of(model, label)
    if mask:
        from ddim.jobs.editing import read_mask

        read_mask(mask, model.shape)


def load_model(name: str, machine: Machine, device=None, show: bool = True, compile: bool = False):
    """Load and prepare a model, and print where it runs. device: instead of the one of the options."""
    from ddim.checkpoints.loading import load
    from ddim.networks.acceleration.prepare import prepare

    model = prepare(load(name, device or machine.device), machine.precision, compile)
    if show:
        say(f"{name}: on {model.device.type} in {model.facts.precision}")
    return model
