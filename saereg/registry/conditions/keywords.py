"""Conditions as keywords: `find(model="pythia-160m", l0__lt=300, layer__in=[6, 8], canonical=True)`."""

from collections.abc import Iterable, Mapping

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.conditions.fields import KINDS, resolve_field
from saereg.registry.conditions.tree import Absent, Among, And, Compare, Condition, Contains, Like, Not, both
from saereg.registry.conditions.values import MOST_VALUES, checked, pattern, unfit

OPERATORS = ("eq", "ne", "lt", "le", "gt", "ge", "in", "contains", "like")
"""What may stand behind `field__`; nothing is `eq`."""


def by_keywords(keywords: Mapping[str, object]) -> Condition:
    """Return that all of these hold.

    Args:
        keywords: `field` or `field__operator` → value. None is what is absent: `withdrawn=None` is met by those that
            nobody took back, `l0__ne=None` by those that have one.

    Raises:
        UnknownNameError: when a field or an operator does not exist.
        UsageError: when a field cannot be compared so.
    """
    return both(And(()), *(_one(name, value) for name, value in keywords.items()))


def _one(keyword: str, value: object) -> Condition:
    name, _, operator = keyword.partition("__")
    if operator and operator not in OPERATORS:
        raise UnknownNameError("operator", operator, OPERATORS)
    field = resolve_field(name)
    try:
        return leaf(field, operator or "eq", value)
    except UsageError as error:
        raise UsageError(f"{keyword}={_short(value)}: {error}") from None


def leaf(field: str, operator: str, value: object) -> Condition:
    """Return one comparison; the field is known.

    Raises:
        UsageError: when it cannot be compared so.
    """
    if value is None and operator in ("eq", "ne"):
        return Absent(field) if operator == "eq" else Not(Absent(field))
    if operator == "in":
        return Among(field, _several(field, value))
    if operator == "like":
        if KINDS[field] != "text" or not isinstance(value, str):
            raise unfit(field)
        return Like(field, pattern(value))
    found = checked(field, operator, value)
    if operator == "contains":
        if not isinstance(found, str | int | float):
            raise unfit(field)
        return Contains(field, found)
    if operator == "eq":
        return Compare(field, "eq", found)
    if operator == "ne":
        return Compare(field, "ne", found)
    return _ordered(field, operator, found)


def _ordered(field: str, operator: str, value: str | float | tuple[int, ...]) -> Condition:
    for known in ("lt", "le", "gt", "ge"):
        if operator == known:
            return Compare(field, known, value)
    raise unfit(field)


def _several(field: str, value: object) -> tuple[str | float | tuple[int, ...], ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise unfit(field)
    values = tuple(checked(field, "eq", one) for one in value if one is not None)
    if len(values) > MOST_VALUES:
        raise UsageError(f"{len(values)} values, where {MOST_VALUES} may be")
    return values


def _short(value: object) -> str:
    written = "…" if isinstance(value, int) and value.bit_length() > 200 else repr(value)
    return written if len(written) <= 60 else f"{written[:59]}…"
