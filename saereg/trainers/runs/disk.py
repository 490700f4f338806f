"""The disk under a run: what can be found out before the first step is found out before the first step."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from saereg.errors import UsageError
from saereg.registry.files.atomic import exclusive, is_running

LEFTOVER = re.compile(r"\..+\.(\d{1,9})\.tmp")
"""Temporary name of a file that a process was writing; the number is the process."""

_UNITS = ("B", "KB", "MB", "GB", "TB")


@contextlib.contextmanager
def alone(folders: Iterable[Path]) -> Iterator[None]:
    """Hold folders against other processes on this machine while the block runs; they are made where missing.

    The folders themselves are locked, so no lock file is left behind, and a process that is killed holds nothing.

    Raises:
        UsageError: when another process holds one of them.
        OSError: when one cannot be made.
    """
    with contextlib.ExitStack() as held:
        for folder in sorted({folder.absolute() for folder in folders}):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(exclusive(folder, lambda here=folder: _refuse(here)))  # type: ignore[misc]
        yield


def _refuse(folder: Path) -> None:
    raise UsageError(f"another process trains in {folder}; wait until it ends, or give this run another id")


def check_writable(folder: Path) -> None:
    """Write one byte into a folder and take it away: hours of training must not end with a refused file.

    Raises:
        OSError: when the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, str(folder)) from None


def check_room(folder: Path, needed: int, what: str) -> None:
    """Refuse a run whose files will not fit.

    Args:
        folder: where they go.
        needed: bytes.
        what: what they are.

    Raises:
        UsageError: when fewer are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(f"{what} need {bytes_label(needed)}, and {bytes_label(free)} are free at {folder}; make room")


def bytes_label(count: float) -> str:
    """Return a number of bytes in words: `1.5 GB`."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {_UNITS[unit]}" if unit else f"{int(count)} B"


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed were writing into a folder; nothing of one that is still running."""
    for path in folder.glob(".*.tmp"):
        match = LEFTOVER.fullmatch(path.name)
        if match and not is_running(int(match[1])):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last a power cut, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
