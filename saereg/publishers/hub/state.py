"""What a commit holds, and whether that is what a plan wants. Told from the tree alone: no file is fetched."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saereg.publishers.plan import State
from saereg.registry.files.digest_cache import Digests
from saereg.registry.files.folder import is_ignored
from saereg.schemas.plan import Operation


@dataclass(frozen=True)
class RemoteFile:
    """One file of a commit.

    Attributes:
        size: bytes.
        git_sha1: git's digest of the file, or of the pointer where it is a large one.
        sha256: digest of the bytes of a large file; None of one that git itself keeps.
    """

    size: int
    git_sha1: str
    sha256: str | None = None


Tree = Mapping[str, RemoteFile]
"""Path → file of a commit; `.gitattributes` and the like, which are no part of a release, are left out."""


def tree_of(entries: Iterable[Any], *, whole: bool = False) -> dict[str, RemoteFile]:
    """Return what the Hub client lists: `RepoFile` and `RepoFolder`.

    Args:
        entries: the list.
        whole: whether files that are no part of any release are in it too.
    """
    return {
        entry.path: RemoteFile(entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
        for entry in entries
        if hasattr(entry, "size") and (whole or not is_ignored(entry.path))
    }


class Ids:
    """Ids that git gives to files of the release, which is all that the Hub says of small ones.

    A file is read for it as it is now. So its sha256 must still be the planned one, unless the id is that of bytes that
    were sent.
    """

    def __init__(self, digests: Digests) -> None:
        self._digests = digests
        self._sent: dict[tuple[str, str], str] = {}

    def sent(self, path: str, sha256: str, content: bytes) -> None:
        """Keep the id of bytes that are sent."""
        blob = b"blob %d\0" % len(content) + content
        self._sent[path, sha256] = hashlib.sha1(blob, usedforsecurity=False).hexdigest()

    def of(self, path: str, sha256: str) -> str | None:
        """Return the id of a file with that sha256; None when the file is another by now."""
        if (path, sha256) in self._sent:
            return self._sent[path, sha256]
        try:
            found, git = self._digests.both(path)
        except FileNotFoundError:
            return None
        return git if found == sha256 else None


def is_same(path: str, size: int, sha256: str, remote: RemoteFile | None, ids: Ids) -> bool:
    """Whether a file of a commit is the local one: by sha256, or where git keeps it by git's digest.

    Args:
        path: path in the release.
        size: bytes.
        sha256: digest of the local file.
        remote: the file of the commit.
        ids: ids of the local files.
    """
    if remote is None or remote.size != size:
        return False
    return remote.sha256 == sha256 if remote.sha256 else remote.git_sha1 == ids.of(path, sha256)


def is_content(raw: bytes, remote: RemoteFile) -> bool:
    """Whether bytes are those of a file of a commit."""
    if len(raw) != remote.size:
        return False
    if remote.sha256:
        return hashlib.sha256(raw).hexdigest() == remote.sha256
    blob = b"blob %d\0" % len(raw) + raw
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == remote.git_sha1


def state_of(tree: Tree, wanted: State, ids: Ids) -> State:
    """Return what a commit holds, as plans compare it: path → (bytes, sha256).

    Of small files that differ from the local ones the sha256 is not known.
    """
    held: State = {}
    for path, remote in tree.items():
        size, sha256 = wanted.get(path, (-1, None))
        same = sha256 is not None and is_same(path, size, sha256, remote, ids)
        held[path] = (remote.size, sha256 if same else remote.sha256)
    return held


def missing(operations: Sequence[Operation], tree: Tree, ids: Ids) -> list[Operation]:
    """Return the operations of a plan that a commit does not show: files that differ, or that are still there."""
    return [operation for operation in operations if not is_done(operation, tree, ids)]


def is_done(operation: Operation, tree: Tree, ids: Ids) -> bool:
    """Whether a commit shows what one operation asks for."""
    remote = tree.get(operation.path)
    if operation.action == "remove":
        return remote is None
    if operation.action == "keep" or operation.sha256 is None:
        return remote is not None and remote.size == operation.size
    return is_same(operation.path, operation.size, operation.sha256, remote, ids)


MOST_LINES = 20


def changes(before: Tree, after: Tree) -> list[str]:
    """Return what differs between two commits, one line per file."""
    lines = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old != new:
            mark = "+" if old is None else "-" if new is None else "~"
            lines.append(f"{mark} {path}")
    more = len(lines) - MOST_LINES
    return lines if more <= 0 else [*lines[:MOST_LINES], f"… {more} more"]


def strange(operations: Sequence[Operation], before: Tree, after: Tree) -> list[str]:
    """Return the files that differ between two commits although no operation says so; whole trees are needed.

    `.gitattributes` may differ: the Hub itself writes there which files are large ones.
    """
    ours = {operation.path for operation in operations} | {".gitattributes"}
    return sorted(path for path in {*before, *after} - ours if before.get(path) != after.get(path))
