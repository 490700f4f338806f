"""What a condition says, whichever way it was written."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Value: TypeAlias = str | int | float | bool | tuple[int, ...]
"""What a field is compared with; steps are compared with all of them at once."""

Comparison = Literal["eq", "ne", "lt", "le", "gt", "ge", "same"]
"""`same` is equality number for number and letter for letter; `eq` of a model also knows its short name."""


@dataclass(frozen=True, slots=True)
class Compare:
    """A field, compared with a value; unknown where the field is absent."""

    field: str
    operator: Comparison
    value: Value


@dataclass(frozen=True, slots=True)
class Among:
    """A field has one of some values."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """A text fits a pattern, in which `*` is any characters and `?` is one."""

    field: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Contains:
    """A text holds another one, or the steps one step."""

    field: str
    value: str | int | float


@dataclass(frozen=True, slots=True)
class Absent:
    """A field has no value; never unknown."""

    field: str


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite; of what is unknown it is unknown."""

    part: "Condition"


@dataclass(frozen=True, slots=True)
class And:
    """All hold. Of none it is true."""

    parts: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """At least one holds. Of none it is false."""

    parts: "tuple[Condition, ...]"


Leaf: TypeAlias = Compare | Among | Like | Contains | Absent
Condition: TypeAlias = Leaf | Not | And | Or

EVERYTHING = And(())
"""The condition that all meet."""


def both(first: Condition, *more: Condition) -> Condition:
    """Return that all of some conditions hold, without needless brackets."""
    parts = tuple(part for one in (first, *more) for part in (one.parts if isinstance(one, And) else (one,)))
    return parts[0] if len(parts) == 1 else And(parts)


def leaves(condition: Condition) -> Iterator[Leaf]:
    """Yield every part of a condition that names a field."""
    if isinstance(condition, And | Or):
        for part in condition.parts:
            yield from leaves(part)
    elif isinstance(condition, Not):
        yield from leaves(condition.part)
    else:
        yield condition


def fields_in(conditions: Iterable[Condition]) -> set[str]:
    """Return the fields that some conditions name."""
    return {leaf.field for condition in conditions for leaf in leaves(condition)}
