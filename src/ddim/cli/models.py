"""The model that a command names, ready on the device and in the precision of its options."""

from ddim.cli.options import Machine
from ddim.system.messages import say


def load_model(name: str, machine: Machine, device=None, show: bool = True, compile: bool = False):
    """Load and prepare a model, and print where it runs. device: instead of the one of the options."""
    from ddim.checkpoints.loading import load
    from ddim.networks.acceleration.prepare import prepare

    model = prepare(load(name, device or machine.device), machine.precision, compile)
    if show:
        say(f"{name}: on {model.device.type} in {model.facts.precision}")
    return model
