"""State dicts: found in whatever a training program wraps them in, and freed of its prefixes."""

import logging
import re
from pathlib import Path

from torch import Tensor

from ddim.errors import InputError

log = logging.getLogger("ddim")

State = dict[str, Tensor]
# What training programs call the weights as trained, and their average.
TRAINED = ("model", "state_dict", "model_state_dict", "network", "net", "unet", "params", "module")
AVERAGE = re.compile(r"(.*_)?(ema|averaged?)(_.*)?")  # ema, ema_state_dict, model_ema, params_ema, averaged_model
COUNTERS = ("decay", "num_updates", "initted", "step", "n_averaged")  # beside the average, in its state dict
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
    trained, average, unread = _both(content)
    if unread and not raw:
        log.warning("%s: %s, averaged weights, cannot be read; took the weights as trained", path, unread)
    if average is not None and not (raw and trained is not None):
        if raw:
            raise InputError(f"{path}: holds averaged weights only; leave out --raw")
        return True, average
    if trained is None:
        raise InputError(f"{path}: holds no state dict, nor a checkpoint of a layout that is known here")
    if is_state(content) and average is None:
        if raw:
            raise InputError(f"{path}: holds one set of weights; leave out --raw")
        return None, trained
    return False, trained


def _both(content) -> tuple[State | None, State | None, str]:
    """The weights as trained and their average in what a file holds, None where there are none: under names of their
    own, or side by side in one state dict, under prefixes. Last, the name of an average that cannot be read.
    """
    unread = ""
    if is_state(content):
        trained = content
    elif isinstance(content, dict):
        trained = next((content[name] for name in TRAINED if is_state(content.get(name))), None)
        for name, held in content.items():
            if AVERAGE.fullmatch(str(name)) and isinstance(held, dict | list) and held:
                if isinstance(held, dict) and (found := _average(held, trained)):
                    return trained, found, ""
                unread = str(name)
    else:
        return None, None, ""
    marked = {key for key in trained or {} if AVERAGE.fullmatch(str(key).partition(".")[0])}
    average = {key: trained[key] for key in marked if str(key).partition(".")[2] not in COUNTERS}
    if not average:
        return trained, None, unread
    rest = {key: value for key, value in trained.items() if key not in marked} or None
    if any(key.count(".") > 1 for key in average):
        return rest, {key: trained[key] for key in trained if key in average}, ""
    return rest, None, next(iter(average)).partition(".")[0]  # latent diffusion's names have lost their dots


def _average(held: dict, trained: State | None) -> State | None:
    """The average itself, in what a program keeps of it; None where it cannot be read."""
    values = held.get("shadow_params")  # diffusers' and others': in the order of the parameters
    if isinstance(values, list):
        fits = trained and [getattr(v, "shape", None) for v in values] == [v.shape for v in trained.values()]
        return dict(zip(trained, values, strict=True)) if fits else None
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
