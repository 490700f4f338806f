"""Strict JSON: duplicate keys, NaN, odd encodings and runaway sizes are problems; a pointer can be traced to a line."""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from math import isinf
from typing import Any

MAX_BYTES = 256 * 1024 * 1024
"""Largest document that is parsed at all, in bytes."""

MAX_DEPTH = 100
"""Deepest nesting that is read; parsers differ in what they bear."""

JsonValue = None | bool | int | float | str | list[Any] | dict[str, Any]


class JsonError(Exception):
    """Why a text is not strict JSON, and where.

    Attributes:
        problem: one sentence.
        line: 1-based line, or None when the whole text is meant.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        self.problem, self.line = problem, line
        super().__init__(problem)


def decode(raw: bytes) -> str:
    """Return the text of a UTF-8 document, or raise JsonError saying what is wrong with its bytes."""
    if len(raw) > MAX_BYTES:
        raise JsonError(f"the document has {len(raw)} bytes; {MAX_BYTES} is the most that is read")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise JsonError("the document starts with a UTF-8 byte order mark; save it without one", 1)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise JsonError(f"byte {error.start} is not UTF-8", line) from None


def parse(text: str) -> JsonValue:
    """Parse strict JSON; see `parse_measured`."""
    return parse_measured(text)[0]


def parse_measured(text: str) -> tuple[JsonValue, int]:
    """Parse strict JSON, and return with it the most entries that any list or object of it can have.

    Raises:
        JsonError: on a syntax error, a duplicate key, NaN or Infinity, a number or nesting that other parsers would not
            bear, or an escape that is no character.
    """
    try:
        value: JsonValue = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_integer, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON: {error.msg} (column {error.colno})", error.lineno) from None
    except _RefusedError as refused:
        raise JsonError(refused.args[0], _line_of(text, refused.args[1])) from None
    except RecursionError:
        raise JsonError("nested too deeply to be read") from None
    longest = text.count(",") + 1
    if text.count("[") + text.count("{") > MAX_DEPTH:  # no text with fewer brackets can be deeper
        longest = _check_depth(value)
    _check_characters(value, text)
    return value, longest


def compact(value: object) -> str:
    """Return the JSON text of a plain value on one line, keys sorted."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))


class _RefusedError(Exception):
    """(problem, regular expression that finds its line)."""


def _unique(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        quoted = re.escape(json.dumps(key, ensure_ascii=False))
        raise _RefusedError(f"the key {key!r} stands twice in one object", quoted + r"\s*:")
    return found


def _refuse_constant(name: str) -> JsonValue:
    raise _RefusedError(f"{name} is not JSON; use null and say why", r"-?\b" + name.lstrip("-") + r"\b")


def _integer(digits: str) -> int | float:
    if len(digits) < 19 and digits != "-0":
        return int(digits)
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        problem = f"an integer of {len(digits.lstrip('-'))} digits; 64 bits hold any number of a release"
        raise _RefusedError(problem, digits[:40])
    return -0.0 if digits == "-0" else int(digits)  # as every other parser reads it


def _finite(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise _RefusedError(f"{digits[:40]} is larger than any number", re.escape(digits[:40]))
    return value


def _check_depth(value: JsonValue) -> int:
    """Refuse what is nested too deeply; return the entries of the longest list or object."""
    level, longest = [value] if isinstance(value, dict | list) else [], 0
    for _ in range(MAX_DEPTH):
        if not level:
            return longest
        longest = max(longest, max(map(len, level)))
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
    if level:
        raise JsonError("nested too deeply to be read")
    return longest


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _check_characters(value: JsonValue, text: str) -> None:
    if not _SURROGATE.search(text):
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        escape = f"\\u{ord(error.object[error.start]):04x}"
        line = _line_of(text, "(?i)" + re.escape(escape))
        raise JsonError(f"half of a surrogate pair ({escape}) is no character", line) from None


def _line_of(text: str, pattern: str) -> int | None:
    """Return the line of the last match: the second of two equal keys is the one to look at."""
    last = None
    for last in re.finditer(pattern, text):  # noqa: B007
        pass
    return text.count("\n", 0, last.start()) + 1 if last else None


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)


def pointer(location: Iterable[object]) -> str:
    """Return the JSON pointer (RFC 6901) of a path of keys and indices."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


MAX_TRACED = 32 * 1024 * 1024
"""Characters beyond which a text is not traced: its findings then name the pointer alone."""


def line_of(text: str, json_pointer: str) -> int | None:
    """Return the 1-based line of the value (in an object: of its key) at a pointer.

    A pointer to a key that is absent gives the line of its deepest parent that exists; None when the text is no JSON.
    """
    place = place_of(text, json_pointer)
    return place[0] if place else None


def place_of(text: str, json_pointer: str) -> tuple[int, int] | None:
    """Return the 1-based line and column, in characters, of the value (in an object: of its key) at a pointer.

    A pointer to a key that is absent gives the place of its deepest parent that exists; None when the text is no JSON.
    """
    places = _places(text)
    while json_pointer and json_pointer not in places:
        json_pointer = json_pointer.rpartition("/")[0]
    return places.get(json_pointer)


def has(text: str, json_pointer: str) -> bool:
    """Whether there is something at a pointer."""
    return json_pointer in _places(text)


class _Frame:
    """An open object or array, and where in it the reader stands."""

    def __init__(self, path: str, opener: str) -> None:
        self.path, self.is_object = path, opener == "{"
        self.index, self.key, self.place = 0, None if self.is_object else "0", (0, 0)

    def advance(self) -> None:
        """Go on to the next key or element."""
        self.index += 1
        self.key = None if self.is_object else str(self.index)


@lru_cache(maxsize=8)
def _places(text: str) -> dict[str, tuple[int, int]]:
    """Return pointer → line and column of every value, in one pass: a release with many findings is traced once."""
    found: dict[str, tuple[int, int]] = {}
    frames: list[_Frame] = []
    line, before, seen = 1, -1, 0
    for match in _TOKEN.finditer(text) if len(text) <= MAX_TRACED else ():
        token = match.group()
        if breaks := text.count("\n", seen, match.start()):
            line, before = line + breaks, text.rindex("\n", seen, match.start())
        seen = match.start()
        frame = frames[-1] if frames else None
        if token == ":":
            continue
        if token in ",]}":
            if frame and token == ",":
                frame.advance()
            elif frames:
                frames.pop()
        elif frame and frame.key is None:
            frame.key, frame.place = pointer([_unquoted(token)])[1:], (line, seen - before)
        else:
            path = f"{frame.path}/{frame.key}" if frame else ""
            found.setdefault(path, frame.place if frame and frame.is_object else (line, seen - before))
            if token in "[{":
                frames.append(_Frame(path, token))
    return found


def _unquoted(token: str) -> str:
    try:
        return str(json.loads(token))
    except ValueError:
        return token
