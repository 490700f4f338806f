"""Files by path and digest: added, removed, changed, moved."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from saereg.registry.differences.pairing import paired
from saereg.registry.differences.rules import CLASSES, FILES, ROLES, Class, Event, change
from saereg.schemas.difference import Change, ChangeKind, Value
from saereg.schemas.index import IndexFile


@dataclass(frozen=True)
class _Placed:
    """A file under the path that is compared: in an artifact that of its folder."""

    path: str
    file: IndexFile


def file_changes(
    old: Iterable[IndexFile], new: Iterable[IndexFile], old_folder: str = "", new_folder: str = ""
) -> Iterator[Change]:
    """Yield what happened to files; one of equal bytes under another name moved, where it is clear which one it is.

    Args:
        old: files before.
        new: files now.
        old_folder: folder of the artifact before; paths are compared from there.
        new_folder: folder of the artifact now.
    """
    before = [_Placed(_below(file.path, old_folder), file) for file in old]
    now = [_Placed(_below(file.path, new_folder), file) for file in new]
    by_path, by_digest = (lambda placed: placed.path), (lambda placed: placed.file.sha256)
    found = paired(before, now, [("path", by_path, by_path), ("digest", by_digest, by_digest)])
    for a, b, by in found.pairs:
        if by == "digest":
            yield change(FILES[_class(a, b), "moved"], b.path, a.path, b.path, f"sha256 {b.file.sha256[:12]}")
        elif a.file.sha256 != b.file.sha256 or a.file.size != b.file.size:
            yield change(FILES[_class(a, b), "changed"], b.path, _facts(a), _facts(b))
        if a.file.role != b.file.role:
            yield change("role_changed", b.path, a.file.role, b.file.role)
    for gone in found.removed:
        yield change(_kind(gone, "removed"), gone.path, _facts(gone), None)
    for come in found.added:
        yield change(_kind(come, "added"), come.path, None, _facts(come))


def _below(path: str, folder: str) -> str:
    return path.removeprefix(f"{folder}/") if folder else path


def _class(a: _Placed, b: _Placed) -> Class:
    """Return what depends on a file whose role another version of saereg may name otherwise: the graver of the two."""
    return max((ROLES[a.file.role], ROLES[b.file.role]), key=CLASSES.index)


def _kind(placed: _Placed, event: Event) -> ChangeKind:
    return FILES[ROLES[placed.file.role], event]


def _facts(placed: _Placed) -> Value:
    return {"role": placed.file.role, "sha256": placed.file.sha256, "size": placed.file.size}
