"""Conditions and orders as SQL, with parameters for every value."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from saereg.registry.catalog.columns import column
from saereg.registry.conditions.fields import HEADLINES, Basis
from saereg.registry.conditions.tree import Absent, Among, And, Compare, Condition, Contains, Like, Not, Or, Value
from saereg.registry.found import Order

_SIGNS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "same": "="}

_OTHERS, _SOURCE = re.compile(r"\b[rs]\."), re.compile(r"\bs\.")

DEFAULT_ORDER = ("r.name", "r.version", "r.id", "a.key")
"""Name of the release, and in it the natural order of ids, in which they are written."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A condition and whose numbers it is about."""

    condition: Condition
    basis: Basis | None


@dataclass(frozen=True, slots=True)
class Sorted:
    """An order and whose numbers it is about."""

    order: Order
    basis: Basis | None


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of SQL and the values of its question marks."""

    text: str
    values: tuple[object, ...] = ()


def conditions(asked: Iterable[Asked]) -> Sql:
    """Return what stands behind WHERE: that all of some conditions hold."""
    found: list[Sql] = []
    for one in asked:
        parts = one.condition.parts if isinstance(one.condition, And) else (one.condition,)
        found += [_measured(part) or condition(part, one.basis) for part in parts if one.basis == "measured"]
        found += [condition(part, one.basis) for part in parts if one.basis != "measured"]
    return _joined(found, " AND ", "1")


def condition(what: Condition, basis: Basis | None) -> Sql:
    """Return one condition as SQL; what is unknown is NULL, as in `saereg.registry.conditions.memory`."""
    if isinstance(what, Not):
        inner = condition(what.part, basis)
        return Sql(f"NOT ({inner.text})", inner.values)
    if isinstance(what, And):
        return _joined([condition(part, basis) for part in what.parts], " AND ", "1")
    if isinstance(what, Or):
        return _joined([condition(part, basis) for part in what.parts], " OR ", "0")
    where = column(what.field, basis)
    if isinstance(what, Absent):
        return Sql(f"{where} IS NULL")
    if isinstance(what, Among):
        return _among(what, where)
    if isinstance(what, Like):
        return Sql(f"{where} GLOB ?", (what.pattern.replace("[", "[[]"),))
    if isinstance(what, Contains):
        return _contains(what, where)
    return _compare(what, where)


def _compare(what: Compare, where: str) -> Sql:
    if what.field == "model" and what.operator in ("eq", "ne"):
        return _model(str(what.value), what.operator == "eq")
    return Sql(f"{where} {_SIGNS[what.operator]} ?", (_held(what.value),))


def _model(wanted: str, equal: bool) -> Sql:
    """Compare a base model; without a slash it may be of any organization. The short name is in an index."""
    if "/" not in wanted:
        return Sql(f"a.model_name {'=' if equal else '<>'} ?", (wanted.lower(),))
    if not equal:
        return Sql("a.model <> ?", (wanted,))
    return Sql("(a.model = ? AND a.model_name = ?)", (wanted, wanted.rpartition("/")[2].lower()))


def _among(what: Among, where: str) -> Sql:
    if not what.values:
        return Sql(f"CASE WHEN {where} IS NOT NULL THEN 0 END")
    if what.field == "model":
        names = tuple(str(value) for value in what.values)
        short = tuple(sorted({name.lower() for name in names if "/" not in name}))
        full = tuple(name for name in names if "/" in name)
        parts = [(f"a.model_name IN ({_marks(short)})", short)] if short else []
        parts += [(f"a.model IN ({_marks(full)})", full)] if full else []
        return _joined([Sql(*part) for part in parts], " OR ", "0")
    return Sql(f"{where} IN ({_marks(what.values)})", tuple(_held(value) for value in what.values))


def _contains(what: Contains, where: str) -> Sql:
    if what.field == "steps":
        inside = f"EXISTS (SELECT 1 FROM json_each({where}) AS step WHERE step.value = ?)"
        return Sql(f"CASE WHEN {where} IS NOT NULL THEN {inside} END", (what.value,))
    return Sql(f"instr({where}, ?) > 0", (what.value,))


def _measured(part: Condition) -> Sql | None:
    """Return a condition on a measured headline that an index serves; only where unknown is as good as not met."""
    if not isinstance(part, Compare) or part.field not in HEADLINES:
        return None
    inner = condition(part, None)
    return Sql(f"{inner.text} AND a.{part.field}_basis = 'measured'", inner.values)


def ordering(orders: Sequence[Sorted]) -> str:
    """Return what stands behind ORDER BY: the given ones, then the default."""
    terms = [f"{column(one.order.field, one.basis)} {'DESC' if one.order.down else 'ASC NULLS LAST'}" for one in orders]
    return ", ".join((*terms, *DEFAULT_ORDER))


def source_of(where: Sql, order: str, *, indexed: str = "") -> str:
    """Return what stands behind FROM: the artifacts, and of releases and sources what is asked for.

    There are no statistics of a catalogue, so the order of the loops is said: releases first where a condition names
    them, or nothing narrows the artifacts.
    """
    text = f"{where.text} {order}"
    artifacts = f"artifact a{indexed}"
    if not _OTHERS.search(text):
        return artifacts
    source = " CROSS JOIN source s ON s.id = r.source" if _SOURCE.search(text) else ""
    if indexed or _is_narrowed(where.text, order):
        return f"{artifacts} CROSS JOIN release r ON r.id = a.release{source}"
    return f"release r CROSS JOIN artifact a ON a.release = r.id{source}"


def _is_narrowed(where: str, order: str) -> bool:
    """Whether an index of artifacts serves a condition or the order."""
    served = ("a.model_name = ?", "a.model_name IN", "a.model = ?", "a.explained_variance ", "a.key IN")
    first = f"{where} AND {order}"
    return not _OTHERS.search(where) and any(part in first for part in served)


def _held(value: Value) -> object:
    """Return a value as the catalogue has it."""
    if isinstance(value, tuple):
        return json.dumps(value, separators=(",", ":"))
    return int(value) if isinstance(value, bool) else value


def _joined(parts: Sequence[Sql], word: str, empty: str) -> Sql:
    if len(parts) == 1:
        return parts[0]
    text = word.join(f"({part.text})" for part in parts)
    return Sql(text or empty, tuple(value for part in parts for value in part.values))


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
