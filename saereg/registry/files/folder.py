"""The files of a release folder, listed without following anything out of it."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saereg.schemas.names import OUTSIDE, one_name

IGNORED_FOLDERS = OUTSIDE
"""Folders of git, of continuous integration, and what the Hub client and Python leave behind; no part of a release."""

IGNORED_FILES = frozenset(
    {".git", ".gitattributes", ".gitignore", ".pre-commit-config.yaml", ".DS_Store", "saereg.toml"}
)
"""Files of the project around a release (`.git` is one in a submodule), and what the Hub and desktops add.

They are never indexed and never published.
"""

_FILES = frozenset(map(one_name, IGNORED_FILES))


@dataclass(frozen=True)
class Entry:
    """One entry of a release folder.

    Attributes:
        path: POSIX path relative to the release.
        size: bytes, 0 unless a regular file.
        kind: `file`, `escape` (a symbolic link out of the release, or to nothing), `special` (socket, pipe, device), or
            `closed` (a folder that cannot be listed).
    """

    path: str
    size: int
    kind: Literal["file", "escape", "special", "closed"]


def scan(root: Path) -> tuple[Entry, ...]:
    """List every entry below a release folder, sorted by path.

    Links to files inside the release (or into the blob store of the Hub's local cache, when the release is a snapshot
    in it) count as files; linked folders and all other links are `escape`. Nothing is opened. Names that are not UTF-8
    are given with backslashes, so that they can be shown; no rule lets such a path pass.

    Raises:
        OSError: when the folder itself cannot be listed.
    """
    allowed = _allowed_roots(root)
    found: list[Entry] = []
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as listing:
                entries = list(listing)
        except OSError:
            if not folder:
                raise
            found.append(Entry(_shown(folder), 0, "closed"))
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if one_name(entry.name) not in IGNORED_FOLDERS:
                    pending.append(path)
            elif one_name(entry.name) not in _FILES:
                found.append(_entry(entry, _shown(path), allowed))
    return tuple(sorted(found, key=lambda entry: entry.path))


def is_ignored(path: str) -> bool:
    """Whether a file is no part of a release, by its path alone; `.GIT` is the folder `.git` on some machines."""
    *folders, name = one_name(path).split("/")
    return name in _FILES or not IGNORED_FOLDERS.isdisjoint(folders)


def _shown(path: str) -> str:
    return path if path.isascii() else os.fsencode(path).decode("utf-8", "backslashreplace")


def _allowed_roots(root: Path) -> tuple[Path, ...]:
    """Return the real folders that links may point into."""
    real = root.resolve()
    blobs = root.absolute().parent.parent / "blobs"
    return (real, blobs.resolve()) if root.absolute().parent.name == "snapshots" and blobs.is_dir() else (real,)


def _entry(entry: "os.DirEntry[str]", name: str, allowed: tuple[Path, ...]) -> Entry:
    try:
        if entry.is_symlink():
            target = Path(entry.path).resolve(strict=True)
            if target.is_dir() or not any(target.is_relative_to(root) for root in allowed):
                return Entry(name, 0, "escape")
        status = entry.stat()
    except (OSError, RuntimeError):  # a broken link, or a loop of links
        return Entry(name, 0, "escape" if entry.is_symlink() and not os.path.exists(entry.path) else "special")
    if not stat.S_ISREG(status.st_mode):
        return Entry(name, 0, "special")
    return Entry(name, status.st_size, "file")
