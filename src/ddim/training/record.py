"""What a run folder tells of a training, to whoever looks on while another process trains."""

from dataclasses import dataclass
from pathlib import Path

from ddim.errors import InputError
from ddim.plots.curves import entry
from ddim.system.files import is_held
from ddim.system.json import read_json
from ddim.training.sample_quality import Quality, in_words
from ddim.training.verdict import Measurement, verdict


@dataclass(frozen=True)
class Record:
    """A run as its folder has it now. lines: those of its log.  sheets: samples by the step they are of."""

    out: Path
    settings: dict
    lines: list[dict]
    sheets: list[tuple[int, Path]]
    running: bool

    @property
    def losses(self) -> list[tuple[int, float]]:
        """The steps and their losses."""
        return [(line["step"], line["loss"]) for line in self.lines if "loss" in line]

    @property
    def held_out(self) -> list[Measurement]:
        """The losses on held-out images, and on as many of those that it is trained on."""
        found = [line for line in self.lines if "held_out" in line]
        return [Measurement(line["step"], line["held_out"], line["seen"], line["n"]) for line in found]

    @property
    def words(self) -> list[str]:
        """What can be said of it, in lines."""
        if not self.lines:
            return ["no step is logged yet"]
        last = next((line for line in reversed(self.lines) if "loss" in line), self.lines[-1])
        said = [f"step {last['step']:,}" + (f", loss {last['loss']:.4f}" if "loss" in last else "")]
        if speed := last.get("images_per_second"):
            said[0] += f", {speed:,.0f} images/s"
        if self.held_out:
            m = self.held_out[-1]
            said.append(f"held-out loss {m.held_out:.4f}, of training images {m.seen:.4f}")
        if samples := [line["samples"] for line in self.lines if "samples" in line]:
            said += in_words(Quality(**samples[-1]))
        return said + ([words] if (words := verdict(self.held_out)) else [])


def record(out: str | Path) -> Record:
    """The run in a folder. Raises InputError where there is none."""
    out = Path(out)
    if not (out / "train.json").exists():
        raise InputError(f"{out}: holds no run; name a folder that ddim train has written")
    log = out / "log.jsonl"
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [found for line in text.splitlines() if (found := entry(line))]
    sheets = sorted((int(path.stem.removeprefix("step-")), path) for path in out.glob("samples/step-[0-9]*.png"))
    return Record(out, read_json(out / "train.json"), lines, sheets, is_held(out))
