"""The files of a release folder, listed without following anything out of it."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

IGNORED_FOLDERS = frozenset({".git", ".cache", "__pycache__"})
"""Folders that git, the Hub client and Python leave behind; no part of any release."""

IGNORED_FILES = frozenset({".gitattributes", ".DS_Store"})
"""Files that the Hub and desktops add on their own."""


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
            with os.scandir(root / folder) as listing:
                entries = list(listing)
        except OSError:
            if not folder:
                raise
            found.append(Entry(_shown(folder), 0, "closed"))
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in IGNORED_FOLDERS:
                    pending.append(path)
            elif entry.name not in IGNORED_FILES:
                found.append(_entry(Path(entry.path), _shown(path), allowed))
    return tuple(sorted(found, key=lambda entry: entry.path))


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _allowed_roots(root: Path) -> tuple[Path, ...]:
    """Return the real folders that links may point into."""
    real = root.resolve()
    blobs = root.absolute().parent.parent / "blobs"
    return (real, blobs.resolve()) if root.absolute().parent.name == "snapshots" and blobs.is_dir() else (real,)


def _entry(path: Path, name: str, allowed: tuple[Path, ...]) -> Entry:
    try:
        if path.is_symlink():
            target = path.resolve(strict=True)
            if target.is_dir() or not any(target.is_relative_to(root) for root in allowed):
                return Entry(name, 0, "escape")
        status = path.stat()
    except (OSError, RuntimeError):  # a broken link, or a loop of links
        return Entry(name, 0, "escape" if path.is_symlink() and not path.exists() else "special")
    if not stat.S_ISREG(status.st_mode):
        return Entry(name, 0, "special")
    return Entry(name, status.st_size, "file")
