"""What an index says of a file, and a list of files brought up to date after some were written or removed."""

from collections.abc import Collection, Iterable
from pathlib import Path

from saereg.errors import UsageError
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.folder import Entry
from saereg.registry.files.roles import role_of
from saereg.schemas.index import IndexFile
from saereg.schemas.names import path_problem


def index_file(root: Path, entry: Entry, digest: str | None = None) -> IndexFile:
    """Return what an index says of a file.

    Args:
        root: release folder.
        entry: the file.
        digest: its sha256, where it is known.

    Raises:
        UsageError: when its path is not portable.
        OSError: when it cannot be read.
    """
    path = entry.path
    if problem := path_problem(path):
        raise UsageError(f"{root}: {path}: {problem}")
    return IndexFile(path=path, size=entry.size, sha256=digest or sha256_of(root / path), role=role_of(path))


def listed(
    root: Path, files: Iterable[IndexFile], written: Iterable[str], removed: Collection[str] = ()
) -> tuple[IndexFile, ...]:
    """Return a list of files without those that were removed and with those that were written; sorted by path."""
    fresh = {path: index_file(root, Entry(path, (root / path).stat().st_size, "file")) for path in written}
    known = {file.path: file for file in files if file.path not in removed} | fresh
    return tuple(known[path] for path in sorted(known))
