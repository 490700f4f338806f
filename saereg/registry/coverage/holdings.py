"""What a catalogue holds of which model, in one query: rows are counted, never read."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import UsageError
from saereg.registry.catalog.store import reading
from saereg.registry.federation.places import PACKAGE

COUNTED = """
SELECT a.model, s.id, r.standing, r.name || coalesce(' ' || r.version, ''),
    count(*), count(coalesce(a.withdrawn, r.withdrawn))
FROM artifact a JOIN release r ON r.id = a.release JOIN source s ON s.id = r.source
GROUP BY a.model, r.id
"""
"""Rows of each model in each release, and how many of them are withdrawn."""

SOURCES = "SELECT id, kind, locator, pin, tool, substr(synced, 1, 10) FROM source WHERE synced IS NOT NULL ORDER BY id"


@dataclass(frozen=True)
class Synced:
    """A source of the catalogue.

    Attributes:
        kind: `folder`, `hub`, `saelens` or `inventory`.
        locator: which.
        pin: commit or sha256 of what was read.
        tool: what made the rows.
        day: when, UTC.
    """

    kind: str
    locator: str
    pin: str | None
    tool: str | None
    day: str

    @property
    def is_registry(self) -> bool:
        """Whether it lists dictionaries of the whole field, so that absence says something: SAELens' own registry.

        A yaml file of its shape that somebody wrote lists what they have.
        """
        return (self.kind, self.locator) == ("saelens", PACKAGE)


@dataclass(frozen=True)
class Holding:
    """Rows of one model in one release.

    Attributes:
        model: as the source writes it.
        source: where the rows come from.
        standing: `verified`, `unverified` or `foreign`.
        release: name and version.
        rows: how many are not withdrawn.
        withdrawn: how many are.
    """

    model: str
    source: Synced
    standing: str
    release: str
    rows: int
    withdrawn: int


@dataclass(frozen=True)
class Held:
    """What a catalogue holds.

    Attributes:
        path: its file.
        sources: its sources that were synced.
        holdings: rows by model and release.
        nameless: rows that name no model.
    """

    path: Path
    sources: tuple[Synced, ...]
    holdings: tuple[Holding, ...]
    nameless: int


def read_held(path: Path) -> Held:
    """Return what a catalogue holds.

    Raises:
        UsageError: when there is none, or it cannot be read.
    """
    try:
        with reading(path) as connection:
            sources = {row[0]: Synced(*row[1:]) for row in connection.execute(SOURCES)}
            found = list(_holdings(connection, sources))
    except sqlite3.Error as error:
        raise UsageError(f"{path}: {error}; name another catalogue with --catalog, or add the sources again") from None
    named = tuple(holding for holding in found if holding.model)
    nameless = sum(holding.rows + holding.withdrawn for holding in found if not holding.model)
    return Held(path, tuple(sources.values()), named, nameless)


def _holdings(connection: sqlite3.Connection, sources: dict[int, Synced]) -> Iterator[Holding]:
    for model, source, standing, release, count, withdrawn in connection.execute(COUNTED):
        if source in sources:
            yield Holding(model or "", sources[source], standing, release, count - withdrawn, withdrawn)
