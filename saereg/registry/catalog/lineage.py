"""The lineage of a release or artifact: of the catalogue, and of the release itself where it is not in there."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from saereg.errors import NothingToValidateError
from saereg.registry.catalog.graph import Books, Graph, Node, known, walk
from saereg.registry.catalog.references import locate
from saereg.registry.catalog.rows import Source
from saereg.registry.catalog.store import reading
from saereg.registry.catalog.tables import TABLES, VIEWS
from saereg.registry.catalog.writing import write
from saereg.registry.refs import Reference, is_there, parse_reference
from saereg.registry.release import Release, open_release


def graph_of(target: str, depth: int, catalog: Path) -> Graph:
    """Return what hangs together with a release or artifact.

    Args:
        target: reference, or name of a release in the catalogue.
        depth: steps from it.
        catalog: file of the catalogue; there need not be one.

    Raises:
        SaeregError: when the target is neither in the catalogue nor a release that can be opened.
    """
    with contextlib.ExitStack() as held:
        books = [held.enter_context(reading(catalog))] if catalog.is_file() else []
        root, release = _root(target, catalog, Books(books))
        if release is not None:
            books.append(held.enter_context(_book_of(release, root.place)))
            root = known(Books(books), root.place, root.artifact)
        return walk(Books(books), root, depth)


def _root(target: str, catalog: Path, books: Books) -> tuple[Node, Release | None]:
    """Return the node that a target names, and its release where the catalogue does not have it."""
    reference = parse_reference(target)
    place = reference.repo or os.path.abspath(reference.folder or "")
    node = known(books, place, reference.artifact)
    if node.standing is not None and (ids := _ids(books, place, reference.artifact)):
        return replace(node, artifact=ids[0] if len(ids) == 1 else reference.artifact), None
    if reference.repo is None and not is_there(reference.folder or ""):
        return _by_name(target, reference, catalog, books), None
    whole = str(reference.folder) if reference.folder else f"{place}{_at(reference)}"
    release = open_release(whole if reference.repo is None else f"hf://{whole}")
    if reference.artifact is not None:
        return Node(place, release.named(reference.artifact).id), release
    return Node(place), release


def _ids(books: Books, place: str, artifact: str | None) -> list[str | None]:
    """Return what a release in the catalogue has by an id, path or second name; of the whole release nothing is asked.

    The walk goes by ids: rows of other makes are named by their paths.
    """
    if artifact is None:
        return [None]
    where = "release IN (SELECT id FROM release WHERE repo = ? OR folder = ?)"
    for text in (
        f"SELECT DISTINCT id FROM artifact WHERE {where} AND coalesce(path, id) = ?",
        f"SELECT DISTINCT id FROM artifact WHERE {where} AND id = ?",
        f"SELECT DISTINCT artifact FROM alias WHERE {where} AND name = ?",
    ):
        if rows := books.rows(text, place, place, artifact):
            return [row[0] for row in rows]
    return []


def _at(reference: Reference) -> str:
    return f"@{reference.revision}" if reference.revision else ""


def _by_name(target: str, reference: Reference, catalog: Path, books: Books) -> Node:
    """Return the node of a release, or of an artifact of it, by the name that it has in the catalogue."""
    rows = books.rows("SELECT coalesce(repo, folder, name) FROM release WHERE name = ? ORDER BY id DESC", target)
    if rows:
        return known(books, str(rows[0][0]), None)
    found = locate(catalog, target, reference)
    if found is None:
        raise NothingToValidateError(f"{target} is not a folder, and no release of that name is in the catalogue")
    return known(books, str(found.repo or found.folder or found.release), found.id)


@contextlib.contextmanager
def _book_of(release: Release, place: str) -> Iterator[sqlite3.Connection]:
    """Make a catalogue of one release, in memory."""
    from saereg.registry.catalog.readers.release import snapshot

    source = Source("hub" if release.repo else "folder", place)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.executescript(TABLES + VIEWS)
        write(connection, snapshot(release, None, source, release.path.name))
        yield connection
    finally:
        connection.close()
