"""The frontier of two fields over a catalogue: by walking an index where one serves, else by looking at all of them."""

import json
import sqlite3
from collections.abc import Iterator, Sequence

from saereg.registry.catalog import compiling
from saereg.registry.catalog.columns import column
from saereg.registry.catalog.compiling import Asked, Sql
from saereg.registry.conditions.fields import Basis
from saereg.registry.conditions.tree import fields_in
from saereg.registry.found import Aim, best_steps, rank

FEW = 20_000
"""Artifacts that are all looked at, rather than walking the index past those that do not meet the conditions."""

INDEX = " INDEXED BY artifact_frontier"

Point = tuple[float, float, int]
"""Ranks in both fields, small ones good, and the key of an artifact."""


def undominated(
    connection: sqlite3.Connection,
    asked: Sequence[Asked],
    keys: Sequence[int] | None,
    aims: tuple[Aim, Aim],
    basis: Basis | None,
) -> list[int]:
    """Return the keys of those that none beats in one field without being worse in the other.

    Args:
        connection: an open catalogue.
        asked: conditions that they meet.
        keys: rows that they are among; None: any.
        aims: both fields, and which of their values are good.
        basis: whose numbers.
    """
    walked = _aims_of_index(aims, basis)
    where = compiling.conditions(asked)
    if keys is not None:
        where = _and(Sql("a.key IN (SELECT value FROM json_each(?))", (json.dumps(keys),)), where)
    covered = fields_in(one.condition for one in asked) <= {"l0", "explained_variance"} and keys is None
    if walked and covered and all(one.basis != "stated" for one in asked):
        return list(_walked(connection, where, basis))
    points = _points(connection, where, aims, basis, FEW + 1 if walked else -1)
    if walked and len(points) > FEW:
        return list(_walked(connection, where, basis))
    kept = {point[:2] for point in best_steps(sorted(points))}
    return [key for x, y, key in points if (x, y) in kept]


def _aims_of_index(aims: tuple[Aim, Aim], basis: Basis | None) -> bool:
    """Whether the index has both fields, in this direction."""
    return basis != "stated" and {(aim.field, aim.smaller) for aim in aims} == {
        ("l0", True),
        ("explained_variance", False),
    }


def _points(
    connection: sqlite3.Connection, where: Sql, aims: tuple[Aim, Aim], basis: Basis | None, limit: int
) -> list[Point]:
    x, y = (column(aim.field, basis) for aim in aims)
    source = compiling.source_of(where, f"{x} {y}")
    text = (
        f"SELECT x, y, key FROM (SELECT {x} AS x, {y} AS y, a.key AS key FROM {source} WHERE {where.text})"
        " WHERE x IS NOT NULL AND y IS NOT NULL LIMIT ?"
    )
    rows = connection.execute(text, (*where.values, limit))
    return [(rank(x, aims[0]), rank(y, aims[1]), key) for x, y, key in rows]


def _walked(connection: sqlite3.Connection, where: Sql, basis: Basis | None) -> Iterator[int]:
    """Yield keys from the most variance explained downwards: each step needs fewer active latents than all before.

    Together the steps read each entry of the index about once, however many artifacts there are on the frontier.
    """
    base = _and(Sql("a.l0 IS NOT NULL AND a.explained_variance IS NOT NULL"), where)
    if basis is not None:  # where there is a measured one, it is in the column: see saereg.registry.catalog.headline
        base = _and(base, Sql("a.l0_basis = 'measured' AND a.explained_variance_basis = 'measured'"))
    bounds: tuple[float, ...] = ()
    while True:
        step = _and(Sql("a.explained_variance < ? AND a.l0 < ?", bounds), base) if bounds else base
        point = _first(connection, "a.explained_variance, a.l0", step)
        if point is None:
            return
        bounds = (point[0], point[1])
        same = _and(Sql("a.explained_variance = ? AND a.l0 = ?", bounds), base)
        yield from (key for (key,) in connection.execute(_text("a.key", same), same.values))


def _first(connection: sqlite3.Connection, columns: str, where: Sql) -> tuple[float, float] | None:
    text = f"{_text(columns, where)} ORDER BY a.explained_variance DESC, a.l0 LIMIT 1"
    found = connection.execute(text, where.values).fetchone()
    return found if found is None else (found[0], found[1])


def _text(columns: str, where: Sql) -> str:
    return f"SELECT {columns} FROM {compiling.source_of(where, '', indexed=INDEX)} WHERE {where.text}"


def _and(first: Sql, second: Sql) -> Sql:
    return Sql(f"({first.text}) AND ({second.text})", (*first.values, *second.values))
