"""Models on the Hub."""

from pathlib import Path

from ddim.errors import InputError


def fetch(name: str) -> Path:
    """The cached folder of a model on the Hub; its pickled weights only where it has no safetensors."""
    from huggingface_hub import snapshot_download

    try:
        for suffix in ("safetensors", "bin"):
            path = Path(snapshot_download(name, allow_patterns=["*.json", f"*diffusion_pytorch_model.{suffix}"]))
            if any(path.rglob(f"diffusion_pytorch_model.{suffix}")):
                break
        return path
    except Exception as error:  # the Hub's own errors, and the network's
        reason = str(error).splitlines()[0][:160]
        raise InputError(f"{name}: no such folder, and not reachable on the Hub either ({reason})") from error
