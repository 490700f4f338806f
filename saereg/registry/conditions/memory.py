"""Conditions on values in memory, three-valued as in SQL: what compares an absent value is unknown."""

import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from saereg.registry.conditions.fields import model_name
from saereg.registry.conditions.tree import (
    Absent,
    Among,
    And,
    Condition,
    Contains,
    Leaf,
    Like,
    Not,
    Or,
    Value,
)

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "same": operator.eq,
}


def meets(condition: Condition, fields: Mapping[str, object]) -> bool | None:
    """Return whether an artifact meets a condition; None where that is unknown, because a value is absent.

    Args:
        condition: the condition.
        fields: field → value, None where it is absent.
    """
    if isinstance(condition, Not):
        found = meets(condition.part, fields)
        return None if found is None else not found
    if isinstance(condition, And | Or):
        decides = isinstance(condition, Or)  # one part that is so decides the whole
        unknown = False
        for part in condition.parts:
            found = meets(part, fields)
            if found is decides:
                return decides
            unknown = unknown or found is None
        return None if unknown else not decides
    if isinstance(condition, Absent):
        return fields[condition.field] is None
    value = fields[condition.field]
    return None if value is None else _leaf(condition, value)


def _leaf(condition: Leaf, value: Any) -> bool | None:  # noqa: ANN401 - of the field's type
    if isinstance(condition, Absent):
        return False
    if isinstance(condition, Among):
        found = [_equal(condition.field, value, wanted) for wanted in condition.values]
        return True if True in found else None if None in found else False
    if isinstance(condition, Like):
        return _fits(condition.pattern).fullmatch(value) is not None
    if isinstance(condition, Contains):
        return condition.value in value
    if condition.operator in ("eq", "ne"):
        equal = _equal(condition.field, value, condition.value)
        return equal if condition.operator == "eq" or equal is None else not equal
    return _ORDERS[condition.operator](value, condition.value)


def _equal(field: str, value: object, wanted: Value) -> bool | None:
    """Compare; a model that is wanted without a slash may be of any organization, in capitals or not."""
    if field == "model" and isinstance(wanted, str) and "/" not in wanted:
        short = model_name(str(value))
        return None if short is None else short == wanted.lower()
    return bool(value == wanted)


@lru_cache(maxsize=256)
def _fits(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(c) or re.escape(c) for c in pattern), re.DOTALL)
