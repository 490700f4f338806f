"""Conditions as text: `kind = sae and (l0 < 300 or ev > 0.9) and not variant like 'layernorm*'`.

    condition   all { or all }
    all         one { and one }
    one         not one | ( condition ) | field | field comparison
    comparison  < <= > >= = == != <> value | [not] in (value, …) | [not] between value and value
                | [not] like pattern | [not] contains value | is [not] absent | is [not] present

A value is a number, `yes` or `no`, a word, or a text in quotes, in which a doubled quote is one quote. `null` and
`none` are `absent`. A field by itself is one of yes or no, and is yes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.conditions.fields import KINDS, resolve_field
from saereg.registry.conditions.keywords import leaf
from saereg.registry.conditions.tree import Absent, And, Condition, Not, Or, both
from saereg.registry.conditions.values import CALLED, MOST_VALUES, ORDERED, unfit

_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<quoted>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")|(?P<symbol><=|>=|==|!=|<>|<|>|=|\(|\)|,)"
    r"|(?P<word>[^\s()<>=!,'\"]+)"
)
_NUMBER = re.compile(r"[+-]?(\d+(?P<point>\.\d*)?|(?P<dot>\.\d+))(?P<power>[eE][+-]?\d+)?")

SYMBOLS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "=": "eq", "==": "eq", "!=": "ne", "<>": "ne"}
"""Symbol → operator."""

WORDS = ("in", "between", "like", "contains")
"""Comparisons that are words."""

ABSENT, TRUTHS = ("absent", "null", "none"), {"true": True, "yes": True, "false": False, "no": False}
"""Words for no value, and for yes and no."""

MOST_PARTS, DEEPEST = 200, 40
"""Comparisons that a condition may have, and brackets in brackets."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Token:
    """A word, symbol or quoted text, and the column at which it begins, counted from 1; the end is empty."""

    kind: str
    text: str
    column: int

    @property
    def low(self) -> str:
        return self.text.lower() if self.kind == "word" else ""

    @property
    def shown(self) -> str:
        return repr(self.text) if self.kind != "end" else "the end"


def parse(text: str) -> Condition:
    """Return what a condition says.

    Raises:
        UsageError: when it is none, with the column at which it stops being one.
        UnknownNameError: when it names a field that does not exist, with the closest one.
    """
    return _Parser(text).whole()


class _Parser:
    """One text being read from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.position, self.parts, self.depth = text, 0, 0, 0
        self.tokens = [*self._tokens(), _Token("end", "", len(text) + 1)]

    def _tokens(self) -> list[_Token]:
        found, at = [], 0
        while at < len(self.text):
            match = _TOKEN.match(self.text, at)
            if match is None:
                rest = _Token("bad", self.text[at], at + 1)
                problem = "a quote that is not closed" if rest.text in "'\"" else f"unexpected {rest.shown}"
                raise self._wrong(rest, problem)
            if match.lastgroup and match.lastgroup != "space":
                found.append(_Token(match.lastgroup, match[0], at + 1))
            at = match.end()
        return found

    @property
    def now(self) -> _Token:
        return self.tokens[self.position]

    def take(self, *words: str) -> bool:
        """Step over a keyword or symbol, if it comes now."""
        here = self.now
        if (here.low if here.kind == "word" else here.text) not in words or here.kind in ("quoted", "end"):
            return False
        self.position += 1
        return True

    def _wrong(self, where: _Token, problem: str) -> UsageError:
        return UsageError(f"{_short(self.text)} column {where.column}: {problem}")

    def expect(self, what: str) -> UsageError:
        """Return that something else should come now."""
        return self._wrong(self.now, f"expected {what}, found {self.now.shown}")

    def at(self, where: _Token, make: Callable[[], T]) -> T:
        """Return what is made; what is wrong with it is said with its column."""
        try:
            return make()
        except UnknownNameError:
            raise
        except UsageError as error:
            raise self._wrong(where, str(error)) from None

    def whole(self) -> Condition:
        found = self.any()
        if self.now.kind != "end":
            more = "; a value with spaces stands in quotes" if self.now.kind == "word" else ""
            raise self._wrong(self.now, f"expected and, or, or the end, found {self.now.shown}{more}")
        return found

    def any(self) -> Condition:
        parts = [self.all()]
        while self.take("or"):
            parts.append(self.all())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def all(self) -> Condition:
        parts = [self.one()]
        while self.take("and"):
            parts.append(self.one())
        return both(*parts)

    def one(self) -> Condition:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self._wrong(self.now, f"more than {DEEPEST} brackets or nots in each other")
        try:
            if self.take("not"):
                return Not(self.one())
            if not self.take("("):
                return self.comparison()
            found = self.any()
            if not self.take(")"):
                raise self.expect("and, or, or )")
            return found
        finally:
            self.depth -= 1

    def comparison(self) -> Condition:
        where = self.now
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise self._wrong(where, f"more than {MOST_PARTS} comparisons")
        if where.kind != "word" or where.low in (*WORDS, "and", "or", "is"):
            raise self.expect("a field, not, or (")
        field = resolve_field(where.text)
        self.position += 1
        if self.now.text in SYMBOLS and self.now.kind == "symbol":
            self.position += 1
            return self.compared(field, SYMBOLS[self.tokens[self.position - 1].text])
        if self.take("is"):
            return self.presence(field)
        negated = self.take("not")
        if self.now.low in WORDS:
            self.position += 1
            found = self.worded(field, self.tokens[self.position - 1].low)
            return Not(found) if negated else found
        if KINDS[field] == "truth" and not negated:
            return leaf(field, "eq", True)
        more = "" if negated else f" {' '.join(SYMBOLS)}, is,"
        raise self.expect(f"one of{more} {', '.join(WORDS)} after {where.text}")

    def compared(self, field: str, operator: str) -> Condition:
        if self.now.low in ("none", "null", "absent") and operator in ("eq", "ne"):
            self.position += 1
            return leaf(field, operator, None)
        where = self.now
        value = self.value(field)
        if KINDS[field] == "text" and operator in ORDERED and where.kind == "word" and _NUMBER.fullmatch(where.text):
            raise self._wrong(where, f"{unfit(field)}: '9' comes after '10'")
        return self.at(where, lambda: leaf(field, operator, value))

    def presence(self, field: str) -> Condition:
        negated = self.take("not")
        if self.take("present"):
            negated = not negated
        elif not self.take(*ABSENT):
            raise self.expect("absent or present")
        return Not(Absent(field)) if negated else Absent(field)

    def worded(self, field: str, word: str) -> Condition:
        where = self.now
        if word == "between":
            low = self.value(field)
            if not self.take("and"):
                raise self.expect("and")
            high = self.value(field)
            return self.at(where, lambda: And((leaf(field, "ge", low), leaf(field, "le", high))))
        if word == "in":
            values = self.values(field)
            return self.at(where, lambda: leaf(field, "in", values))
        value = self.value(field)
        return self.at(where, lambda: leaf(field, word, value))

    def values(self, field: str) -> list[str | float | bool]:
        if not self.take("("):
            raise self.expect("(")
        found = [self.value(field)]
        while self.take(","):
            found.append(self.value(field))
        if not self.take(")"):
            raise self.expect(", or )")
        if len(found) > MOST_VALUES:
            raise self._wrong(self.now, f"more than {MOST_VALUES} values")
        return found

    def value(self, field: str) -> str | float | bool:
        """Step over a value, read as one of the field's type: `snapshot = 50` is a text, `layer = 6` a number."""
        where = self.now
        if where.kind not in ("word", "quoted") or where.low in ("and", "or", "not"):
            raise self.expect("a value")
        self.position += 1
        kind = KINDS[field]
        if where.kind == "quoted":
            return where.text[1:-1].replace(where.text[0] * 2, where.text[0])
        if kind == "text":
            return where.text
        if kind == "truth":
            found = TRUTHS.get(where.low)
            if found is not None:
                return found
        elif match := _NUMBER.fullmatch(where.text):
            exact = len(where.text) < 30 and not (match["point"] or match["dot"] or match["power"])
            return int(where.text) if exact else float(where.text)
        raise self._wrong(where, f"{field} is {CALLED[kind]}, and {where.shown} is none")


def _short(text: str) -> str:
    """Return a text in quotes, of one line."""
    return repr(text) if len(text) <= 200 else f"{text[:199]!r}…"
