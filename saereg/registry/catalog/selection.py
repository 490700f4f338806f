"""Artifacts of a catalogue, chosen by one SQL statement that is made when it is needed."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from saereg.errors import UsageError
from saereg.registry.catalog import compiling
from saereg.registry.catalog.artifact import CatalogArtifact
from saereg.registry.catalog.columns import column
from saereg.registry.catalog.compiling import Asked, Sorted, Sql
from saereg.registry.catalog.frontier import undominated
from saereg.registry.catalog.store import reading
from saereg.registry.conditions.fields import FIELDS, HEADLINES, KINDS, METRICS, Basis
from saereg.registry.conditions.tree import EVERYTHING, Condition
from saereg.registry.found import Aim, Count, Found, Order, absent_last, known_basis

BATCH = 500
"""Artifacts that are fetched at once."""

FROM_BASE: dict[str, Callable[[Any], Any]] = {
    "truth": bool,
    "steps": lambda text: tuple(json.loads(text)),
}
"""Type of a field → how its value is read from a column, where that holds something else."""


@dataclass(frozen=True)
class CatalogSelection(Found[CatalogArtifact]):
    """Artifacts of a catalogue, in order. Nothing is read before it is asked for, and then only that.

    Attributes:
        path: file of the catalogue.
        basis: whose numbers count; see `Found.basis`.
        asked: conditions, each with the basis under which it was asked.
        orders: orders, the latest first.
        keys: rows that it is limited to; None where any may meet the conditions.
    """

    path: Path
    basis: Basis | None = None
    asked: tuple[Asked, ...] = field(default=(), repr=False)
    orders: tuple[Sorted, ...] = field(default=(), repr=False)
    keys: tuple[int, ...] | None = field(default=None, repr=False)

    def __iter__(self) -> Iterator[CatalogArtifact]:
        return self._artifacts(None, 0)

    def __len__(self) -> int:
        return self._size

    @cached_property
    def _size(self) -> int:
        where = self._where
        with reading(self.path) as connection:
            text = f"SELECT count(*) FROM {compiling.source_of(where, '')} WHERE {where.text}"
            return int(connection.execute(text, where.values).fetchone()[0])

    @overload
    def __getitem__(self, position: int) -> CatalogArtifact: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[CatalogArtifact, ...]: ...
    def __getitem__(self, position: int | slice) -> CatalogArtifact | tuple[CatalogArtifact, ...]:
        """Return the one at a place, or several; only these are read."""
        if isinstance(position, slice):
            start, stop, step = position.start, position.stop, position.step
            if min(start or 0, stop or 0, step or 1) < 0 or stop is None:
                start, stop, step = position.indices(len(self))
            start, step = start or 0, step or 1
            if step < 0:
                return tuple(self[n] for n in range(start, stop, step))
            return tuple(self._artifacts(max(stop - start, 0), start))[::step]
        place = position if position >= 0 else len(self) + position
        found = next(self._artifacts(1, place), None) if place >= 0 else None
        if found is None:
            raise IndexError(f"no artifact {position} of {len(self)}")
        return found

    def of(self, basis: Basis | None) -> "CatalogSelection":
        """Return the same artifacts with the numbers of one basis; conditions that were asked before stay answered."""
        return replace(self, basis=known_basis(basis))

    def meeting(self, condition: Condition) -> "CatalogSelection":
        """Return those that also meet a condition."""
        if condition == EVERYTHING:
            return self
        return replace(self, asked=(*self.asked, Asked(condition, self.basis)))

    def ordered(self, orders: Sequence[Order]) -> "CatalogSelection":
        """Return them sorted by some fields, the first one first; equals stay as they are."""
        return replace(self, orders=(*(Sorted(order, self.basis) for order in orders), *self.orders))

    def rows(self, fields: Sequence[str], limit: int | None = None) -> Iterator[tuple[Any, ...]]:
        """Yield some fields of each; of the first `limit` only."""
        with reading(self.path) as connection:
            for keys in self._batches(connection, limit, 0):
                found = _fetched(connection, keys, fields, self.basis)
                yield from (found[key] for key in keys)

    def counted(self, fields: Sequence[str], best: Aim | None = None) -> list[Count]:
        """Return how many there are of each combination of values, sorted by them; absent values come last."""
        where, columns = self._where, [column(name, self.basis) for name in fields]
        wanted = f"{'min' if best.smaller else 'max'}({column(best.field, self.basis)})" if best else "NULL"
        source = compiling.source_of(where, " ".join((*columns, wanted)))
        text = (
            f"SELECT {', '.join(columns)}, count(*), {wanted} FROM {source} WHERE {where.text}"
            f" GROUP BY {', '.join(str(n) for n in range(1, len(columns) + 1))}"
        )
        with reading(self.path) as connection:
            found = connection.execute(text, where.values).fetchall()
        readers = [FROM_BASE.get(KINDS[name]) for name in fields]
        return sorted((Count(_read(row, readers), int(row[-2]), row[-1]) for row in found), key=absent_last)

    def undominated(self, first: Aim, second: Aim) -> "CatalogSelection":
        """Return those that none beats in one field without being worse in the other, the best in the first first."""
        with reading(self.path) as connection:
            keys = undominated(connection, self.asked, self.keys, (first, second), self.basis)
        found = replace(self, keys=tuple(keys), asked=())
        return found.ordered([Order(aim.field, not aim.smaller) for aim in (first, second)])

    @property
    def _where(self) -> Sql:
        found = compiling.conditions(self.asked)
        if self.keys is None:
            return found
        return Sql(
            f"a.key IN (SELECT value FROM json_each(?)) AND ({found.text})", (json.dumps(self.keys), *found.values)
        )

    def _artifacts(self, limit: int | None, offset: int) -> Iterator[CatalogArtifact]:
        with reading(self.path) as connection:
            for keys in self._batches(connection, limit, offset):
                found = _fetched(connection, keys, FIELDS, self.basis)
                for key in keys:
                    fields = dict(zip(FIELDS, found[key], strict=True))
                    yield CatalogArtifact(key, fields, self.path, self.basis)

    def _batches(self, connection: sqlite3.Connection, limit: int | None, offset: int) -> Iterator[list[int]]:
        """Yield the keys of some rows, in order; refuse to go on when somebody wrote in between."""
        where, order = self._where, compiling.ordering(self.orders)
        before = _version(connection)
        text = (
            f"SELECT a.key FROM {compiling.source_of(where, order)} WHERE {where.text}"
            f" ORDER BY {order} LIMIT ? OFFSET ?"
        )
        values = (*where.values, -1 if limit is None else limit, offset)
        keys = [int(row[0]) for row in connection.execute(text, values)]
        for start in range(0, len(keys), BATCH):
            if _version(connection) != before:
                raise UsageError(f"{self.path}: the catalogue was changed while it was read; ask again")
            yield keys[start : start + BATCH]


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def _fetched(
    connection: sqlite3.Connection, keys: Sequence[int], fields: Sequence[str], basis: Basis | None
) -> dict[int, tuple[Any, ...]]:
    """Return key → some fields."""
    several = [name for name in fields if name in METRICS and name not in HEADLINES]
    plain = [name for name in fields if name not in several]
    numbers = _numbers(connection, keys, several, basis) if several else {}
    columns = ", ".join(("a.key", *(column(name, basis) for name in plain)))
    text = (
        f"SELECT {columns} FROM json_each(?) AS wanted CROSS JOIN artifact a ON a.key = wanted.value"
        " CROSS JOIN release r ON r.id = a.release CROSS JOIN source s ON s.id = r.source"
    )
    readers = [FROM_BASE.get(KINDS[name]) for name in plain]
    places = [("several", several.index(n)) if n in several else ("plain", plain.index(n)) for n in fields]
    found = {}
    for key, *values in connection.execute(text, (json.dumps(keys),)):
        mine, row = numbers.get(key, {}), _read(values, readers)
        found[key] = tuple(row[n] if kind == "plain" else mine.get(several[n]) for kind, n in places)
    return found


def _numbers(
    connection: sqlite3.Connection, keys: Sequence[int], names: Sequence[str], basis: Basis | None
) -> dict[int, dict[str, float]]:
    """Return key → metric → the number that stands for it, for those that have one definition."""
    which = f" AND m.basis = '{basis}'" if basis else ""
    text = (
        "SELECT m.artifact, m.metric, m.value FROM json_each(?) AS wanted CROSS JOIN metric m"
        f" ON m.artifact = wanted.value WHERE m.metric IS NOT NULL{which} ORDER BY m.basis = 'stated',"
        " coalesce(m.kind, 'recomputed') <> 'recomputed', m.units <> 'raw', m.position"
    )
    found: dict[int, dict[str, float]] = {}
    for key, name, value in connection.execute(text, (json.dumps(keys),)):
        found.setdefault(key, {}).setdefault(name, value)
    return found


def _read(row: Sequence[Any], readers: Sequence[Callable[[Any], Any] | None]) -> tuple[Any, ...]:
    return tuple(
        value if value is None or read is None else read(value) for value, read in zip(row, readers, strict=False)
    )
