"""Rows into a catalogue: one source at a time, whole or not at all."""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from operator import attrgetter

from saereg.registry.catalog.headline import STANDS_FOR, headline
from saereg.registry.catalog.rows import Entry, Metric, ReleaseRows, Snapshot, Source
from saereg.registry.catalog.store import make_indexes
from saereg.registry.catalog.tables import ARTIFACT_INDEXES
from saereg.registry.files.natural import natural_key
from saereg.registry.semver import text_order

PLAIN = tuple(f.name for f in fields(Entry) if f.name not in ("steps", "metrics", "assumptions"))
"""Columns of `artifact` that are fields of an `Entry` as they are."""

COLUMNS = (
    "release", *PLAIN, "steps", "model_name",
    *(f"{name}{end}" for name in STANDS_FOR for end in ("", "_basis", "_definition")),
)  # fmt: skip
"""Columns of `artifact` in the order in which they are written, after its key."""

RELEASE_COLUMNS = (
    "name", "version", "title", "license", "repo", "revision", "folder", "standing", "level", "withdrawn", "loader",
)  # fmt: skip
"""Columns of `release` that are fields of `ReleaseRows` as they are."""

FINDING_COLUMNS = (
    "code", "severity", "message", "artifact", "path", "line", "pointer", "expected", "found", "hint",
)  # fmt: skip
"""Columns of `finding` that are fields of a `Finding` as they are."""

MANY = 1000
"""Rows from which on indexes are made afterwards."""

_INSERT_ARTIFACT = f"INSERT INTO artifact (key, {', '.join(COLUMNS)}) VALUES (?{', ?' * len(COLUMNS)})"
_NO_HEADLINES = (None,) * 3 * len(STANDS_FOR)
_plain, _finding = attrgetter(*PLAIN), attrgetter(*FINDING_COLUMNS)


def now() -> str:
    """Return the time as a catalogue has it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def add_source(connection: sqlite3.Connection, source: Source) -> int:
    """Return the key of a source, which is added when it is not there."""
    where = (source.kind, source.locator, source.revision)
    connection.execute("INSERT OR IGNORE INTO source (kind, locator, revision) VALUES (?, ?, ?)", where)
    found = connection.execute("SELECT id FROM source WHERE (kind, locator, revision) = (?, ?, ?)", where).fetchone()
    return int(found[0])


def remove_source(connection: sqlite3.Connection, source: Source) -> bool:
    """Take a source and all of its rows out; return whether it was there."""
    where = (source.kind, source.locator, source.revision)
    return connection.execute("DELETE FROM source WHERE (kind, locator, revision) = (?, ?, ?)", where).rowcount > 0


def write(connection: sqlite3.Connection, snapshot: Snapshot, moment: str | None = None) -> None:
    """Put all rows of a source in place of those that it had; the caller's transaction makes it all or nothing.

    Args:
        connection: in a transaction of `store.changing`.
        snapshot: the rows.
        moment: when reading the source began, as `now` has it; default: now.
    """
    key = add_source(connection, snapshot.source)
    connection.execute("DELETE FROM release WHERE source = ?", (key,))
    with indexed_after(connection, sum(len(rows.entries) for rows in snapshot.releases)):
        start = int(connection.execute("SELECT coalesce(max(key), 0) + 1 FROM artifact").fetchone()[0])
        for rows in snapshot.releases:
            _write_release(connection, key, rows, start)
            start += len(rows.entries)
    moment = moment or now()
    connection.execute(
        "UPDATE source SET pin = ?, tool = ?, synced = ?, checked = ?, problem = NULL WHERE id = ?",
        (snapshot.pin, snapshot.tool, moment, moment, key),
    )


@contextlib.contextmanager
def indexed_after(connection: sqlite3.Connection, count: int) -> Iterator[None]:
    """Make the indexes of artifacts after the block instead of in it, where it adds more rows than there are.

    Args:
        connection: in a transaction of `store.changing`.
        count: artifacts that the block adds.
    """
    there = connection.execute("SELECT count(*) FROM (SELECT 1 FROM artifact LIMIT ?)", (count,)).fetchone()[0]
    indexed = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = ?", (min(ARTIFACT_INDEXES),))
    anew = count >= MANY and there < count and indexed.fetchone()[0] > 0
    if anew:
        for name in ARTIFACT_INDEXES:
            connection.execute(f"DROP INDEX {name}")
    yield
    if anew:
        make_indexes(connection)


def _write_release(connection: sqlite3.Connection, source: int, rows: ReleaseRows, start: int) -> None:
    names = (*RELEASE_COLUMNS, "version_order")
    values = (*(getattr(rows, name) for name in RELEASE_COLUMNS), text_order(rows.version))
    cursor = connection.execute(
        f"INSERT INTO release (source, {', '.join(names)}) VALUES (?{', ?' * len(names)})", (source, *values)
    )
    # keys are in the natural order of ids: lists come in it without being sorted
    release, entries = int(cursor.lastrowid or 0), sorted(rows.entries, key=lambda one: natural_key(one.id))
    connection.executemany(_INSERT_ARTIFACT, _values(release, start, entries))
    connection.executemany(f"INSERT INTO metric VALUES ({', '.join('?' * 12)})", _metrics(start, entries))
    connection.executemany("INSERT INTO assumption VALUES (?, ?, ?, ?)", _assumptions(start, entries))
    connection.executemany(
        "INSERT INTO edge (release, artifact, relation, target, sha256) VALUES (?, ?, ?, ?, ?)",
        ((release, edge.artifact, edge.relation, edge.target, edge.sha256) for edge in rows.edges),
    )
    connection.executemany("INSERT OR IGNORE INTO alias VALUES (?, ?, ?)", ((release, *a) for a in rows.aliases))
    connection.executemany(
        f"INSERT INTO finding (release, {', '.join(FINDING_COLUMNS)}) VALUES (?{', ?' * len(FINDING_COLUMNS)})",
        ((release, *_finding(found)) for found in rows.findings),
    )


def _values(release: int, start: int, entries: Iterable[Entry]) -> Iterator[tuple[object, ...]]:
    for key, entry in enumerate(entries, start):
        steps = json.dumps(entry.steps, separators=(",", ":")) if entry.steps else None
        yield (key, release, *_plain(entry), steps, model_name(entry.model), *_headlines(entry.metrics))


def _headlines(metrics: Sequence[Metric]) -> tuple[object, ...]:
    if not metrics:
        return _NO_HEADLINES
    found = (headline(metrics, name) for name in STANDS_FOR)
    return tuple(value for one in found for value in ((one.value, one.basis, one.metric) if one else (None,) * 3))


def model_name(model: str | None) -> str | None:
    """Return the short name of a base model: the last part of its id, lower case."""
    return model.rpartition("/")[2].lower() if model else None


def _metrics(start: int, entries: Iterable[Entry]) -> Iterator[tuple[object, ...]]:
    for key, entry in enumerate(entries, start):
        for position, m in enumerate(entry.metrics):
            yield (
                *(key, position, m.basis, m.metric, None if m.name == m.metric else m.name, m.value),
                *(m.evaluation, m.kind, m.units, m.batch_rows, m.rows, m.verdict),
            )


def _assumptions(start: int, entries: Iterable[Entry]) -> Iterator[tuple[object, ...]]:
    for key, entry in enumerate(entries, start):
        for assumed in entry.assumptions:
            yield key, assumed.field, assumed.value, assumed.because
