"""What was computed of batches of images, kept in a folder until all is done: a job that was stopped continues."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from ddim.errors import InputError
from ddim.jobs.continuing import continuing
from ddim.system.files import check_own, clean, held, replacing
from ddim.system.json import read_json, write_json

SETTINGS = "settings.json"


class Unfinished:
    """A folder of named tensors, a file for each batch and each thing that is computed of it.

    A file is named by a digest of the batch's images, so that nothing is taken for what was computed of others.
    """

    def __init__(self, path: Path):
        self.path = path

    def file(self, batch: range, x: Tensor, what: str) -> Path:
        """Where `what` is kept of a batch, whose images are x (B, C, H, W)."""
        name = hashlib.sha256(what.encode() + x.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
        return self.path / f"{batch.start}-{batch.stop}-{name}.safetensors"

    def read(self, file: Path) -> dict[str, Tensor] | None:
        """The tensors that are kept in a file; None where there are none, or a broken file."""
        from safetensors.torch import load_file

        with suppress(OSError, SafetensorError):
            return load_file(file)
        return None

    def keep(self, file: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Keep tensors in a file; returns them, on the CPU."""
        from safetensors.torch import save_file

        tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
        with replacing(file) as part:
            save_file(tensors, part)
        return tensors

    def files(self) -> list[Path]:
        return list(self.path.glob("*.safetensors"))

    def clear(self) -> None:
        """Remove what is kept, and the folder where nothing else is in it."""
        for file in (*self.files(), self.path / SETTINGS):
            file.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()


@contextmanager
def unfinished(path: Path, settings: dict[str, Any]) -> Iterator[Unfinished]:
    """Hold the folder `path` for a job; it is gone when the job has ended well, and kept when it was stopped.

    settings: what decides the tensors beside their images; what was made with others is thrown away. Raises InputError
    where the folder holds other files, or another process works in it.
    """
    settings = json.loads(json.dumps(settings))
    check_own(path / SETTINGS)
    with held(path):
        kept, before = Unfinished(path), {}
        with suppress(InputError):
            before = read_json(path / SETTINGS)
        if before != settings:
            for file in kept.files():
                file.unlink()
            write_json(path / SETTINGS, settings)
        clean(path)
        try:
            with continuing(path):
                yield kept
        except BaseException as error:
            if not kept.files():
                kept.clear()
                if isinstance(error, KeyboardInterrupt):
                    raise KeyboardInterrupt from None  # there is nothing to continue
            raise
        kept.clear()
