"""What a pull must not do to a folder: write through links, give two files one name, fill the disk."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from saereg.errors import PublishError, UsageError
from saereg.schemas.names import one_name
from saereg.schemas.pulled import PULLED_FILE

STAGE = "received"
"""Folder beside the note in which files are received."""


def state_of(out: Path) -> Path:
    """Return the folder for the note of a pull, and for what it receives."""
    return (out / PULLED_FILE).parent


def stage_of(out: Path) -> Path:
    """Return the folder in which files are received."""
    return state_of(out) / STAGE


def require_apart(paths: Iterable[str], where: str) -> None:
    """Refuse names that are one file on some machine, or of which one is a folder of the other.

    Args:
        paths: paths in the release.
        where: the release, for the line.

    Raises:
        PublishError: when there are such names.
    """
    files: dict[str, str] = {}
    for path in paths:
        other = files.setdefault(one_name(path), path)
        if other != path:
            raise PublishError(f"{where}: {other} and {path} are one file on some machines; nothing is fetched")
    for name, path in files.items():
        for folder in PurePosixPath(name).parents:
            if (other := files.get(str(folder), "")) or str(folder) in files:
                raise PublishError(f"{where}: {other} is a file, and a folder of {path}; nothing is fetched")


def require_inside(out: Path, paths: Iterable[str]) -> None:
    """Refuse a folder with links that lead elsewhere, or with a file where a folder is needed.

    Args:
        out: the folder; it may be reached by a link itself.
        paths: files that are written in it, besides what saereg keeps there.

    Raises:
        UsageError: when something would be written, or removed, through a link.
    """
    top = os.path.realpath(out)
    for folder in (stage_of(out), state_of(out), state_of(out).parent):  # what is in them is removed: no link at all
        if folder.is_symlink():
            raise UsageError(f"{folder} is a link; nothing is written through it, remove it")
    for parent in {stage_of(out), *((out / path).parent for path in paths)}:
        real = os.path.realpath(parent)
        if real != top and not real.startswith(os.path.join(top, "")):
            raise UsageError(f"{parent} is a link that leads out of {out}; nothing is written there")
        first = next(folder for folder in (parent, *parent.parents) if os.path.lexists(folder))
        if not first.is_dir():
            raise UsageError(f"{first} is no folder, and one is needed there; choose another folder with --out")


def require_space(out: Path, count: int) -> None:
    """Refuse to fetch more bytes than there is room for; what was received already counts.

    Raises:
        UsageError: when there is no room.
    """
    folder, stage = out.absolute(), stage_of(out)
    while not folder.exists():
        folder = folder.parent
    here = sum(entry.stat().st_size for entry in stage.iterdir()) if stage.is_dir() else 0
    needed, free = count - here, shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(f"{out}: {needed} bytes are needed and {free} are free")


def without_links(stage: Path) -> Path:
    """Remove links from the folder in which files are received: what is appended to a file must not go elsewhere."""
    if stage.is_dir():
        for entry in stage.iterdir():
            if entry.is_symlink():
                entry.unlink()
    return stage
