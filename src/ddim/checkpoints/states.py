"""State dicts: found in whatever a training program wraps them in, and freed of its prefixes."""

from pathlib import Path

from torch import Tensor

from ddim.errors import InputError

State = dict[str, Tensor]
# What training programs call the weights as trained, and their average.
TRAINED = ("model", "state_dict", "model_state_dict", "network", "net", "unet", "params", "module")
AVERAGES = ("ema", "ema_state_dict", "ema_model", "model_ema", "params_ema", "averaged_model")
INSIDE_AVERAGE = ("ema_model.", "shadow.")  # lucidrains', beside bookkeeping of its own


def is_state(value) -> bool:
    """Whether a value is a state dict: names with tensors."""
    return isinstance(value, dict) and bool(value) and all(isinstance(v, Tensor) for v in value.values())


def unwrap(content, raw: bool, path: Path) -> tuple[bool | None, State]:
    """The state dict in what a file holds, and whether it is the averaged one (None where the file does not say).

    Raises InputError.
    """
    if isinstance(content, list) and len(content) in (4, 5) and is_state(content[0]):
        averaged = len(content) == 5 and is_state(content[4]) and not raw
        # `logvar` belongs to an unused kind of model of the official code.
        return averaged, {k: v for k, v in content[4 if averaged else 0].items() if not str(k).endswith("logvar")}
    if is_state(content):
        if raw:
            raise InputError(f"{path}: holds one set of weights; leave out --raw")
        return None, content
    if isinstance(content, dict):
        trained = next((content[name] for name in TRAINED if is_state(content.get(name))), None)
        average = next((content[name] for name in AVERAGES if isinstance(content.get(name), dict)), None)
        average = None if average is None else _average(average)
        if average is not None and not (raw and trained is not None):
            if raw:
                raise InputError(f"{path}: holds averaged weights only; leave out --raw")
            return True, average
        if trained is not None:
            return False, trained
    raise InputError(f"{path}: holds no state dict, nor a checkpoint of a layout that is known here")


def _average(held: dict) -> State | None:
    """The average itself, in what a program keeps of it."""
    if not is_state(held):
        return next((held[name] for name in TRAINED if is_state(held.get(name))), None)
    for start in INSIDE_AVERAGE:
        if inside := {k.removeprefix(start): v for k, v in held.items() if str(k).startswith(start)}:
            return inside
    return held


def below(state: State, *marks: str) -> State:
    """The part of a state dict that is a network: what stands under the prefix of the first key that ends with one of
    `marks`, as `module.`, `_orig_mod.`, or `model.` of a training program. The same where there is none.
    """
    for key in state:
        for mark in marks if isinstance(key, str) else ():
            if key == mark:
                return state
            if key.endswith(f".{mark}"):
                prefix = key.removesuffix(mark)
                return {k.removeprefix(prefix): v for k, v in state.items() if str(k).startswith(prefix)}
    return state
