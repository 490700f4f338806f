"""Which reader reads which kind of source, how its rows are pinned, and when they are still true."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from saereg import __version__
from saereg.errors import DocumentError, NothingToValidateError, SaeregError
from saereg.registry.catalog.rows import Snapshot, Source, SourceKind
from saereg.registry.catalog.sources import MANIFEST
from saereg.registry.catalog.store import reading
from saereg.registry.foreign.files import is_of_ours

if TYPE_CHECKING:
    from saereg.schemas.manifest import Manifest

TOOL = f"saereg {__version__}"
"""How `tool` of a source begins: rows of an earlier saereg are read again."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How one kind of source is read.

    Attributes:
        pin: what a source is now, at the least cost.
        snapshot: its rows.
        is_marked: whether the marks of withdrawal of its rows are others now, though its pin is the same.
        tool: how `tool` of the rows begins.
    """

    pin: Callable[[Source], str]
    snapshot: Callable[[Source], Snapshot]
    is_marked: Callable[[Path, Source], bool] = lambda path, source: False
    tool: str = TOOL


def reader_of(kind: SourceKind, *, offline: bool = False) -> Reader:
    """Return the reader of a kind of source.

    Args:
        kind: which kind.
        offline: whether repositories are read from the local cache.
    """
    if kind == "folder":
        from saereg.registry.catalog.readers import release

        return Reader(release.folder_pin, release.read_folder)
    if kind == "hub":
        return Reader(_cached_pin, _read_cached) if offline else Reader(_commit, _read_hub, _is_marked)
    if kind == "saelens":
        from saereg.registry.catalog.readers import saelens

        return Reader(saelens.pin, lambda source: _named(saelens.snapshot(source)))
    return Reader(_pin_of_inventory, _read_inventory)


def _named(snapshot: Snapshot) -> Snapshot:
    """Return rows with the version of saereg before that of what else made them."""
    return snapshot if snapshot.tool.startswith(TOOL) else replace(snapshot, tool=f"{TOOL}, {snapshot.tool}")


def _commit(source: Source) -> str:
    from saereg.registry.hub import is_commit
    from saereg.registry.remote import commit_of

    repo = "/".join(source.locator.removeprefix("hf://").split("/")[:2])
    if is_commit(source.revision):
        return source.revision
    return commit_of(repo, source.revision or None) or ""


def _read_hub(source: Source) -> Snapshot:
    """Return a repository as rows: a release of saereg, or, where its manifest is of another make, an inventory."""
    from saereg.registry.catalog.readers import inventory, release
    from saereg.registry.remote import open_repository

    place = open_repository(source.locator, source.revision or None)
    try:
        return release.read_hub(source, place, _head(source) if source.revision else None)
    except DocumentError:
        if is_of_ours(place.read(MANIFEST)):
            raise
    foreign = inventory.snapshot(Source("inventory", f"hf://{source.locator}", place.revision))
    return replace(foreign, source=source)


def _head(source: Source) -> "Manifest | None":
    """Return the manifest of the default branch; None where saereg has none there, so that nothing is marked.

    Raises:
        DocumentError: when it is one of saereg and cannot be read: what it marks is not known.
        PublishError: when the Hub does not answer.
    """
    from saereg.registry.catalog.readers import release
    from saereg.registry.remote import open_repository

    place = open_repository(source.locator, None)
    try:
        return release.manifest_of(place)
    except NothingToValidateError:
        return None
    except DocumentError:
        if is_of_ours(place.read(MANIFEST)):
            raise
    return None


def _is_marked(path: Path, source: Source) -> bool:
    """Whether a revision other than the head is withdrawn now, or no longer: marks are made at the head."""
    if not source.revision:
        return False
    from saereg.registry.withdrawal import standing

    try:
        head = _head(source)
    except SaeregError:
        return False
    if head is None:
        return False
    query = (
        "SELECT r.version, r.withdrawn, NULL, NULL FROM release r JOIN source s ON s.id = r.source"
        " WHERE (s.kind, s.locator, s.revision) = (?1, ?2, ?3) UNION ALL"
        " SELECT r.version, r.withdrawn, a.id, a.withdrawn FROM artifact a JOIN release r ON r.id = a.release"
        " JOIN source s ON s.id = r.source WHERE (s.kind, s.locator, s.revision) = (?1, ?2, ?3)"
    )
    with reading(path) as connection:
        rows = connection.execute(query, (source.kind, source.locator, source.revision)).fetchall()
    for version, whole, artifact, own in rows:
        mark = standing(head, version or "", artifact)
        if (mark.kind if mark else None) != (own if artifact is not None else whole):
            return True
    return False


def _cached_pin(source: Source) -> str:
    return ""  # what was never read is read


def _read_cached(source: Source) -> Snapshot:
    from saereg.registry.catalog.readers import release
    from saereg.registry.remote import open_cached

    return release.read_hub(source, open_cached(source.locator, source.revision or None))


def _pin_of_inventory(source: Source) -> str:
    """Return the commit; of a file of this machine the digest of it and of what was read beside it."""
    return _commit(source) if source.locator.startswith("hf://") else _read_inventory(source).pin


def _read_inventory(source: Source) -> Snapshot:
    from saereg.registry.catalog.readers import inventory

    return _named(inventory.snapshot(source))
