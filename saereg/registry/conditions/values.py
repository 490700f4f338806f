"""Values that a condition compares with: of the type of the field, and such that every backend can hold them."""

import math
from collections.abc import Iterable

from saereg.errors import UsageError
from saereg.registry.conditions.fields import KINDS
from saereg.registry.conditions.tree import Value

CALLED = {
    "text": "a text",
    "whole": "a whole number",
    "number": "a number",
    "truth": "yes or no",
    "steps": "a list of steps",
}
"""Type of a field → what it is called in messages."""

MOST_VALUES = 10_000
"""Values that a list in a condition may have."""

MOST_STARS = 6
"""Stars that a pattern may have: each one multiplies the ways in which a text may fit."""

ORDERED = ("lt", "le", "gt", "ge")

LONGEST_PATTERN = 1000
"""Characters that a pattern may have."""


def checked(field: str, operator: str, value: object) -> Value:
    """Return a value as conditions hold it.

    Args:
        field: full name of the field.
        operator: what is done with it, as in `field__operator`.
        value: what it is compared with.

    Raises:
        UsageError: when the field cannot be compared so; without the words of the user, which the caller knows.
    """
    kind = KINDS[field]
    if hasattr(value, "item"):
        value = value.item()  # a number of numpy's
    if operator == "contains":
        return _inside(field, value)
    if kind == "text" and isinstance(value, str):
        return text(value)
    if kind == "truth" and operator not in ORDERED and _is_truth(value):
        return bool(value)
    if kind in ("whole", "number"):
        return number(field, value)
    if kind == "steps" and operator not in ORDERED and isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(_step(field, step) for step in value)
    raise unfit(field)


def unfit(field: str) -> UsageError:
    """Return what is wrong with a comparison that makes no sense."""
    return UsageError(f"{field} is {CALLED[KINDS[field]]}, it cannot be compared so")


def text(value: str) -> str:
    """Return a text that SQLite can hold as it is.

    Raises:
        UsageError: for NUL, and for halves of characters, as undecodable bytes of a command line become.
    """
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise UsageError(f"{value!r} is no text: it holds a NUL, or bytes that are no UTF-8")
    return value


def number(field: str, value: object) -> int | float:
    """Return a number within 64 bits; larger whole ones become the next float.

    Raises:
        UsageError: when it is none.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (isinstance(value, float) and math.isnan(value))
    ):
        raise unfit(field)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        try:
            return float(value)
        except OverflowError:
            raise UsageError(f"{field} is compared with a number that is too large") from None
    return value


def pattern(value: str) -> str:
    """Return a pattern, stars in a row taken as one.

    Raises:
        UsageError: when it has too many stars, or is one of SQL's LIKE.
    """
    value = text(value)
    while "**" in value:
        value = value.replace("**", "*")
    if value.count("*") > MOST_STARS or len(value) > LONGEST_PATTERN:
        raise UsageError(f"a pattern of like has at most {MOST_STARS} stars and {LONGEST_PATTERN} characters")
    if "%" in value and "*" not in value and "?" not in value:
        raise UsageError("in a pattern of like, * is any characters and ? is one; % is itself")
    return value


def _inside(field: str, value: object) -> Value:
    kind = KINDS[field]
    if kind == "text" and isinstance(value, str):
        return text(value)
    if kind == "steps":
        return number(field, value)
    raise unfit(field)


def _step(field: str, value: object) -> int:
    found = number(field, value)
    if isinstance(found, float) and not found.is_integer():
        raise unfit(field)
    return int(found)


def _is_truth(value: object) -> bool:
    return isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1))
