"""What was measured of each batch of images, kept as it comes: a line of JSON a batch, so that a job continues."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ddim.errors import InputError
from ddim.system.files import appending, replacing
from ddim.system.json import checked


class BatchLines:
    """A file with a line for each of some batches. What a kill cut short, or is of no such batch, counts as missing.

    kinds: of a batch, those of the values of its line: name -> annotation, as `ddim.system.json.checked` takes them.
    For the process that holds the folder.
    """

    def __init__(self, path: Path, batches: Sequence[range], kinds: Callable[[range], dict[str, Any]]):
        self.path, self.batches, self.kinds = path, batches, kinds
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        self.found = dict(filter(None, map(self._read, lines)))
        with replacing(path) as part:  # without a half line at its end, which the next would be added to
            part.write_text("".join(map(self._line, self.found)), encoding="utf-8")

    def _read(self, line: str) -> tuple[range, dict[str, Any]] | None:
        """The batch of a line and its values, or None."""
        try:
            values = json.loads(line)
            batch = range(*values["images"])
            kinds = self.kinds(batch) if batch in self.batches else {}
            kept = checked(values, kinds)
        except (InputError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return (batch, kept) if kinds and kept.keys() == kinds.keys() else None

    def _line(self, batch: range) -> str:
        return json.dumps({"images": [batch.start, batch.stop], **self.found[batch]}, sort_keys=True) + "\n"

    def missing(self) -> list[range]:
        return [batch for batch in self.batches if batch not in self.found]

    def add(self, batch: range, values: dict[str, Any]) -> None:
        """Keep what was measured of a batch."""
        self.found[batch] = values
        with appending(self.path) as file:
            file.write(self._line(batch))

    def all(self) -> list[dict[str, Any]]:
        """The values of all batches, in their order."""
        return [self.found[batch] for batch in self.batches]
