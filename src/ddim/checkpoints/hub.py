"""Models on the Hub."""

from pathlib import Path

from ddim.checkpoints.weights import STEM
from ddim.errors import InputError
from ddim.system.files import meant


def fetch(name: str) -> Path:
    """The cached folder of a model on the Hub; its pickled weights only where it has no safetensors. Raises InputError,
    where the Hub cannot be reached with the remedy.
    """
    from huggingface_hub import constants, errors, snapshot_download

    try:
        for suffix in ("safetensors", "bin"):
            patterns = ["*.json", f"*{STEM}*.{suffix}"]
            path = Path(snapshot_download(name, allow_patterns=patterns))
            if any(path.rglob(f"{STEM}*.{suffix}")):
                break
        return path
    except Exception as error:  # the Hub's own errors, and the network's
        if constants.HF_HUB_OFFLINE:
            why = "not in the cache of the Hub, which HF_HUB_OFFLINE forbids to ask: unset it once, or give a folder"
        elif isinstance(error, errors.GatedRepoError):
            why = "the Hub wants its conditions accepted and HF_TOKEN set"
        elif isinstance(error, errors.RepositoryNotFoundError):
            why = "the Hub has no such model either, or a private one, for which set HF_TOKEN"
        elif isinstance(error, errors.LocalEntryNotFoundError):
            why = "the Hub cannot be reached to ask there"
        else:
            why = "the Hub says: " + (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"{name}: no such folder, and {why}{meant(Path(name))}") from None
