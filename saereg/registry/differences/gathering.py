"""The same change of many artifacts, told once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from saereg.registry.differences.rules import LEVELS, RULES
from saereg.schemas.difference import ArtifactDifference, Change, ChangeKind

_ORDER = {kind: position for position, kind in enumerate(RULES)}


@dataclass(frozen=True)
class Gathered:
    """A change that one artifact or many have.

    Attributes:
        kind: what it is.
        where: field, file, tensor or metric.
        entries: every artifact that has it, with the change.
    """

    kind: ChangeKind
    where: str
    entries: tuple[tuple[ArtifactDifference, Change], ...]

    @property
    def same(self) -> Change | None:
        """The change itself, where it is one and the same in all of them; None where the values differ."""
        first = self.entries[0][1]
        return (
            first
            if all((c.old, c.new, c.note) == (first.old, first.new, first.note) for _, c in self.entries)
            else None
        )


def gathered(changed: Iterable[ArtifactDifference]) -> list[Gathered]:
    """Return the changes of artifacts, those of one kind at one place together; the gravest first.

    Values that many share are told apart from those that are each artifact's own: `site.layer 3 → 4` in ten artifacts
    and `4 → 5` in one are two; a thousand digests of a thousand files are one.
    """
    places: dict[tuple[ChangeKind, str], dict[str, list[tuple[ArtifactDifference, Change]]]] = {}
    for entry in changed:
        for change in folded(entry.changes):
            values = places.setdefault((change.kind, change.where), {})
            values.setdefault(repr((change.old, change.new)), []).append((entry, change))
    found = [
        Gathered(kind, where, tuple(entries)) for (kind, where), values in places.items() for entries in _apart(values)
    ]
    return sorted(found, key=lambda g: rank(g.kind))


def folded(changes: Iterable[Change]) -> list[Change]:
    """Return changes, the metrics of one evaluation that were measured on other rows as one: it has other rows."""
    found: list[Change] = []
    rows: dict[tuple[str, str | None], list[Change]] = {}
    for change in changes:
        if change.kind == "metric_other_rows":
            rows.setdefault((change.where.rpartition(" on ")[2], change.note), []).append(change)
        else:
            found.append(change)
    for (evaluation, note), alike in rows.items():
        where = f"{len(alike)} metrics on {evaluation}"
        several = Change(kind="metric_other_rows", level=alike[0].level, where=where, note=note)
        found.append(several if len(alike) > 1 else alike[0])
    return found


def _apart(
    values: dict[str, list[tuple[ArtifactDifference, Change]]],
) -> Iterator[list[tuple[ArtifactDifference, Change]]]:
    if len(values) <= MOST_VALUES:
        yield from values.values()
    else:
        yield [pair for entries in values.values() for pair in entries]


MOST_VALUES = 3
"""More values than these at one place are not told one by one."""


def rank(kind: ChangeKind) -> tuple[bool, int, int]:
    """Return the order in which kinds are told: grave ones first, then by what they demand."""
    rule = RULES[kind]
    return not rule.grave, -LEVELS.index(rule.level), _ORDER[kind]
