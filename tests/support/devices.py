"""An emulated device that has no float64, as Apple's GPUs: "mps" on a machine that has none.

A tensor there is a CPU tensor that says that it lies on "mps", and whose operations refuse float64 as torch does there.
"""

import torch
from torch.overrides import TorchFunctionMode

REFUSAL = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64"
MPS = torch.device("mps")


class There(torch.Tensor):
    """A tensor on the device."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with Emulated():
            return function(*args, **(kwargs or {}))


class Emulated(TorchFunctionMode):
    """While it is entered, "mps" is a device."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function is torch.device:
            return function(*args, **kwargs)
        if getattr(function, "__name__", "") == "__get__" and function.__self__ is torch.Tensor.device:
            return MPS if isinstance(args[0], There) else args[0].data.as_subclass(torch.Tensor).device
        place = self.place(function, args, kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*map(plain, args), **{name: plain(value) for name, value in kwargs.items()})
        return placed(result) if place else result

    @staticmethod
    def place(function, args, kwargs) -> bool:
        """Whether the result lies on the device."""
        name = getattr(function, "__name__", "")
        if name == "cpu":
            return False
        asked = [
            value for value in (*args[1:], *kwargs.values()) if isinstance(value, torch.device | str | torch.Tensor)
        ]
        if name == "to" or "device" in kwargs:
            for value in asked:
                if isinstance(value, There):
                    return True
                if isinstance(value, torch.Tensor):
                    return False
                if str(value).partition(":")[0] in ("cpu", "mps"):
                    return str(value).startswith("mps")
        return any(isinstance(value, There) for value in torch.utils._pytree.tree_leaves((args, kwargs)))


def plain(value):
    """An argument as the CPU takes it."""
    if isinstance(value, There):
        return value.as_subclass(torch.Tensor)
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else value
    if isinstance(value, torch.device) or (isinstance(value, str) and value == "mps"):
        return torch.device("cpu")
    return value


def placed(result):
    """A result on the device; float64 is refused, but for the scalars that Python's numbers become."""
    if isinstance(result, torch.Tensor):
        if result.dtype is torch.float64:
            raise TypeError(REFUSAL)
        return result.as_subclass(There)
    if isinstance(result, list | tuple) and type(result) in (list, tuple):
        return type(result)(map(placed, result))
    return result
