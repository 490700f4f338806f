"""What dictionaries a folder holds, in whatever layouts: for `saereg detect`."""

from dataclasses import dataclass
from pathlib import Path

from saereg.errors import FormatError, SaeregError
from saereg.registry.loading import Match, matches
from saereg.registry.readings.given import Given
from saereg.registry.readings.reading import Reading
from saereg.registry.readings.source import MOST_FILES, Source, open_source

MOST_FOLDERS = 10_000
"""Most folders that are looked at below one path."""


@dataclass(frozen=True)
class Found:
    """One place with weights.

    Attributes:
        path: weight file or folder.
        matches: the layouts that it fits; empty when in none.
        problem: why it cannot be looked at, in one line; None when it can.
        keys: names of its tensors, where it is one file in no layout.
    """

    path: Path
    matches: tuple[Match, ...]
    problem: str | None = None
    keys: tuple[str, ...] = ()


def inventory(path: Path) -> tuple[Found, ...]:
    """Return every place with weights at a path and below it, in order.

    Raises:
        FormatError: when there is nothing at the path, or nothing that could be weights.
    """
    if path.is_file():
        return (look(path),)
    open_source(path)
    found = [place for folder in _folders(path) for place in _in_folder(folder)]
    if not found:
        raise FormatError(path, "holds no weight file that saereg reads")
    return tuple(found)


def look(path: Path) -> Found:
    """Return what one file or folder is."""
    try:
        source = open_source(path)
        fitting = matches(source)
        return Found(path, fitting, keys=() if fitting else tuple(sorted(source.keys)))
    except (SaeregError, OSError) as error:
        return Found(path, (), problem=str(error))


def _in_folder(folder: Path) -> list[Found]:
    """Return the folder if it is one dictionary, else each of its weight files."""
    try:
        source = open_source(folder)
    except FormatError as error:
        return [Found(folder, (), problem=str(error))]
    if not source.names:
        return []
    whole = look(folder)
    if whole.matches or whole.problem or len(source.names) == 1:
        return [whole]
    return [look(folder / name) for name in source.names[:MOST_FILES]]


def _folders(path: Path) -> list[Path]:
    """Return a folder and all below it, sorted, without hidden ones and those whose weights belong to their parent."""
    folders: list[Path] = []
    waiting = [path]
    while waiting and len(folders) < MOST_FOLDERS:
        folder = waiting.pop(0)
        folders.append(folder)
        taken = open_names(folder)
        waiting += sorted(
            entry
            for entry in folder.iterdir()
            if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith(".") and entry.name not in taken
        )
    return folders


def open_names(folder: Path) -> frozenset[str]:
    """Return the sub-folders whose weights belong to the folder itself."""
    try:
        return frozenset(name.split("/")[0] for name in open_source(folder).names if "/" in name)
    except FormatError:
        return frozenset()


def try_reading(source: Source, match: Match, given: Given) -> tuple[Reading | None, str | None]:
    """Return (the reading, None), or (None, why it cannot be read yet)."""
    try:
        reading = match.layout.read(source, given)
        given.check_used()
        return reading, None
    except SaeregError as error:
        return None, str(error)
