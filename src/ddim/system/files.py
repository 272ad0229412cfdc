"""Files that are whole or absent: written under a temporary name, then renamed. Folders that one process holds."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TextIO

from ddim.errors import InputError

PART = ".ddim-part-"  # begins every temporary name; the process, eight random hex digits and the file's own name follow


def is_part(path: Path) -> bool:
    """Whether a file is a temporary one of ours, which a killed process left."""
    return bool(re.fullmatch(rf"{re.escape(PART)}\d+-[0-9a-f]{{8}}-.+", path.name, re.DOTALL))


def clean(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder. Only for the process that holds the folder."""
    for path in folder.rglob(f"{PART}*"):
        if is_part(path) and path.is_file():
            path.unlink(missing_ok=True)


def clean_abandoned(path: Path) -> None:
    """Remove the temporary files of `path` itself whose process has ended. For a file in a folder that nobody holds."""
    for part in path.parent.glob(f"{PART}*"):
        if is_part(part):
            number, _, name = part.name.removeprefix(PART).split("-", 2)
            if name == path.name and not _runs(int(number)):
                part.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether a process of this machine has that number; True where that cannot be asked."""
    if os.name == "nt":  # there, signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass
    return True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`; renamed to `path` on success, removed on any failure.

    A full disk or a folder that cannot be written becomes an InputError, and what was at `path` stays.
    """
    # The numbers of processes repeat on other machines and in containers, which may share the disk.
    part = path.with_name(f"{PART}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        yield part
        with open(part, "rb+") as file:  # Windows flushes only what is open for writing
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)  # safetensors lets only the owner read what it writes
        os.replace(part, path)
    except Exception as error:
        raise refused(path, error) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def appending(path: Path) -> Iterator[TextIO]:
    """Open `path` to add to it; what the disk refuses becomes an InputError."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise refused(path, error) from error


def refused(path: Path, error: BaseException) -> BaseException:
    """An InputError for what the disk refused; the Ctrl-C that cut writing short, which torch.save turns into an error
    of its own; any other error as it was."""
    if isinstance(error, InputError):
        return error
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, KeyboardInterrupt):
            return cause
        cause = cause.__context__
    cause = error
    while cause and not _number(cause):  # torch.save raises its own error while handling the system's
        cause = cause.__context__
    number = cause and _number(cause)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return InputError(f"{path}: no room to write it ({os.strerror(number)}); free some space and try again")
    if number:
        return InputError(f"{path}: cannot be written ({os.strerror(number)})")
    return error


def _number(error: BaseException) -> int | None:
    """The system's error number; safetensors keeps it in the text only."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else getattr(error, "errno", None)


def writable(path: Path) -> Path:
    """`path`, or an InputError unless it is, or could be made, a folder that can be written. Makes nothing."""
    at = path
    while not at.exists() and at != at.parent:
        at = at.parent
    if not at.is_dir():
        raise InputError(f"{at}: is a file; name a folder")
    if not os.access(at, os.W_OK):
        raise InputError(f"{at}: cannot be written (permission denied); name another folder")
    return path


def check_own(path: Path) -> None:
    """Raise InputError where the folder of `path`, the file with a job's settings, holds files and not that one."""
    if not path.exists() and path.parent.is_dir() and any(not is_part(file) for file in path.parent.iterdir()):
        raise InputError(f"{path.parent}: holds other files; name an empty or a new folder")


def folder(path: Path) -> Path:
    """Make `path` a folder that can be written, or raise InputError."""
    try:
        writable(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(path, error) from error
    return path


def meant(path: Path) -> str:
    """The end of a line on a path that is not there: what may have been meant, by the nearest name that is there."""
    at = Path(path.anchor or ".")
    parts = path.parts[bool(path.anchor) :]
    with suppress(OSError):  # of a folder that cannot be read
        for k, part in enumerate(parts):
            if not (at / part).exists():
                near = get_close_matches(part, [file.name for file in at.iterdir()], 1, 0.7)
                found = at.joinpath(near[0], *parts[k + 1 :]) if near else at / part
                return f"; did you mean {found}?" if found.exists() else ""
            at /= part
    return ""


def is_held(path: Path) -> bool:
    """Whether a process holds the folder `path` by `held`; False where that cannot be asked."""
    try:
        import fcntl

        at = os.open(path, os.O_RDONLY)
    except (ImportError, OSError):  # Windows; no such folder
        return False
    try:
        fcntl.flock(at, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        pass
    finally:
        os.close(at)  # at once: whoever begins to hold it now would be refused
    return False


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the folder `path` against other processes that ask for it: they get an InputError.

    The system lets go of it when the process ends, however it ends. Without effect where folders cannot be locked.
    """
    try:
        import fcntl

        at = os.open(folder(path), os.O_RDONLY)
    except (ImportError, OSError):  # Windows
        yield
        return
    try:
        fcntl.flock(at, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"{path}: another process works in it; wait for its end, or name another folder") from None
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(at)
