"""Models on the Hub."""

from pathlib import Path

from ddim.checkpoints.weights import STEM
from ddim.errors import InputError


def fetch(name: str) -> Path:
    """The cached folder of a model on the Hub; its pickled weights only where it has no safetensors. Raises InputError,
    where the Hub cannot be reached with the remedy.
    """
    from huggingface_hub import constants, snapshot_download

    try:
        for suffix in ("safetensors", "bin"):
            patterns = ["*.json", f"*{STEM}*.{suffix}"]
            path = Path(snapshot_download(name, allow_patterns=patterns))
            if any(path.rglob(f"{STEM}*.{suffix}")):
                break
        return path
    except Exception as error:  # the Hub's own errors, and the network's
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        if constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE is set, and it is not in the cache: unset it once, or give a folder"
        raise InputError(f"{name}: no such folder, and not reachable on the Hub either ({reason})") from None
