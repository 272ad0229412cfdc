"""What is asked of a training: its settings, its run folder, and how it is continued."""

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim.errors import InputError, choose
from ddim.images.sources import absolute, check_outside, located
from ddim.system.json import read_json, write_json
from ddim.system.messages import say
from ddim.training.presets import FINE_TUNING, PRESETS
from ddim.training.run import stored
from ddim.training.settings import Settings

UNBEGUN = "unplanned"  # in train.json, until a run is begun there: the names of the settings that the caller gave


@dataclass(frozen=True)
class Request:
    """A training as it was asked for. said: the names of the settings that the caller gave. changes: with `resume`,
    those of the run that become others."""

    preset: str | None
    settings: Settings
    out: Path
    resume: bool
    said: frozenset[str]
    changes: dict[str, Any]


def request(
    data: str | None,
    out: str | Path | None,
    preset: str | None,
    resume: bool,
    settings: Settings | None,
    changes: dict[str, Any],
) -> Request:
    """What the arguments of `train` ask for. Raises InputError where they contradict each other, or the run."""
    if preset is not None:
        choose("preset", preset, PRESETS)
    Settings().changed(**changes)  # a name that there is not is named first
    changes = changes | ({"data": str(data)} if data else {})
    out = run_folder(out, preset, changes.get("data"))
    if resume:
        begun, before = stored(out)
        if preset not in (None, begun):
            was = f"preset {begun}" if begun else "no preset"
            raise InputError(f"{out}: was begun with {was}, not {preset}; name the same, or another --out")
        if (said := read_json(out / "train.json").get(UNBEGUN)) is not None:  # stopped before its first step
            now = with_places(before.changed(**changes))
            now.check()
            return Request(begun, now, out, False, frozenset(said) | frozenset(changes), {})
        now, before = with_places((settings or before).changed(**changes)), with_places(before)
        now.check()
        return Request(begun, now, out, True, frozenset(changes), before.check_resume(now))
    if is_begun(out):
        raise InputError(f"{out}: already holds a run; pass --resume to continue it, or another --out")
    base = base_of(preset, settings, changes)
    now = with_places((settings or base).changed(**changes))
    now.check()
    check_outside(out, now.data.data)
    if now.logging.keep_best and "held_out" in changes and not now.data.held_out:
        raise InputError("--keep-best needs images to judge by: leave out --held-out 0")
    differing = {name for name, value in now.flat().items() if value != base.flat()[name]}
    return Request(preset, now, out, False, frozenset(changes) | differing, {})


def note_unbegun(ask: Request) -> None:
    """Write down what is asked for, so that a stop before the run is begun can be resumed like any other."""
    record = {"preset": ask.preset, **ask.settings.flat(), UNBEGUN: sorted(ask.said)}
    write_json(ask.out / "train.json", record)


def is_begun(out: Path) -> bool:
    """Whether a run in the folder was begun: more than what `note_unbegun` wrote."""
    record = out / "train.json"
    return record.exists() and UNBEGUN not in read_json(record)


def leave_unbegun(ask: Request, made: Sequence[Path], kind: type[BaseException] | None) -> None:
    """On the way out by an error before the run was begun: take back what `note_unbegun` wrote of what cannot be done,
    and the folders that were `made` for it; of what was stopped, say how it is continued."""
    record = ask.out / "train.json"
    if kind is None or not record.exists() or is_begun(ask.out):
        return
    if issubclass(kind, InputError):
        record.unlink()
        with suppress(OSError):  # a folder holds something else
            for path in made:
                path.rmdir()
    elif not issubclass(kind, Exception):  # Ctrl-C, SIGTERM
        say(f"stopped before the first step; continue with: {resuming(ask.preset, ask.out)}")


def base_of(preset: str | None, settings: Settings | None, changes: dict[str, Any]) -> Settings:
    """The settings that a training has unless it is said otherwise. Raises InputError where nothing says them."""
    if preset is not None:
        return PRESETS[preset]
    if changes.get("init") or (settings and settings.network.init):
        return FINE_TUNING
    if settings is None and not changes.get("time"):
        raise InputError(
            f"name a preset, one of {', '.join(PRESETS)}; or a --time, for which all is chosen; or a model to begin "
            "with, by --init"
        )
    return Settings()


def run_folder(out: str | Path | None, preset: str | None, data: str | None) -> Path:
    """The run folder: `out`, else runs/PRESET, else runs/ and the name of the images."""
    if out or preset:
        return Path(out or Path("runs") / str(preset))
    if not data:
        raise InputError("which run is meant? name a preset, --data or --out")
    return Path("runs") / (located(str(data))[0].resolve().name.split(".")[0] or "images")


def with_places(settings: Settings) -> Settings:
    """Settings that name their images, and the model they begin with, from every directory."""
    init = settings.network.init
    if init and (path := Path(init).expanduser()).exists():
        init = str(path.resolve())
    return settings.changed(data=absolute(settings.data.data), init=init)


def resuming(preset: str | None, out: Path) -> str:
    """The command that continues a run, from any directory."""
    return f"ddim train {f'{preset} ' if preset else ''}--out {shlex.quote(str(out.resolve()))} --resume"
