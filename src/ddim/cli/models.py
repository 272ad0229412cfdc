"""The model that a command names, ready on the device and in the precision of its options."""

from ddim.cli.options import Machine


def load_model(name: str, machine: Machine, device=None, say: bool = True, compile: bool = False):
    """Load and prepare a model, and print where it runs. device: instead of the one of the options."""
    from ddim.checkpoints.loading import load
    from ddim.networks.acceleration.prepare import prepare

    model = prepare(load(name, device or machine.device), machine.precision, compile)
    if say:
        print(f"{name}: on {model.device.type} in {model.facts.precision}", flush=True)
    return model
