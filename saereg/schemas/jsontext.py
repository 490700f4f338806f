"""Strict JSON: duplicate keys, NaN, odd encodings and runaway sizes are problems; a pointer can be traced to a line."""

import json
import re
from collections.abc import Iterable
from typing import Any

MAX_BYTES = 256 * 1024 * 1024
"""Largest document that is parsed at all, in bytes."""

JsonValue = None | bool | int | float | str | list[Any] | dict[str, Any]


class JsonProblem(Exception):
    """Why a text is not strict JSON, and where.

    Attributes:
        problem: one sentence.
        line: 1-based line, or None when the whole text is meant.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        self.problem, self.line = problem, line
        super().__init__(problem)


def decode(raw: bytes) -> str:
    """Return the text of a UTF-8 document, or raise JsonProblem saying what is wrong with its bytes."""
    if len(raw) > MAX_BYTES:
        raise JsonProblem(f"the document has {len(raw)} bytes; {MAX_BYTES} is the most that is read")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise JsonProblem("the document starts with a UTF-8 byte order mark; save it without one", 1)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise JsonProblem(f"byte {error.start} is not UTF-8", line) from None


def parse(text: str) -> JsonValue:
    """Parse strict JSON.

    Raises:
        JsonProblem: on a syntax error, a duplicate key, NaN or Infinity, or nesting that is too deep.
    """
    try:
        value: JsonValue = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
        return value
    except json.JSONDecodeError as error:
        raise JsonProblem(f"not JSON: {error.msg} (column {error.colno})", error.lineno) from None
    except _Refused as refused:
        raise JsonProblem(refused.args[0], _line_of(text, refused.args[1])) from None
    except RecursionError:
        raise JsonProblem("nested too deeply to be read") from None
    except ValueError as error:  # an integer of thousands of digits
        raise JsonProblem(f"not JSON that can be read: {error}") from None


class _Refused(Exception):
    """(problem, regular expression that finds its line)."""


def _unique(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        quoted = re.escape(json.dumps(key, ensure_ascii=False))
        raise _Refused(f"the key {key!r} stands twice in one object", quoted + r"\s*:")
    return found


def _refuse_constant(name: str) -> JsonValue:
    raise _Refused(f"{name} is not JSON; use null and say why", r"-?\b" + name.lstrip("-") + r"\b")


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


def line_of(text: str, json_pointer: str) -> int | None:
    """Return the 1-based line on which the value (or key) at `json_pointer` stands.

    A pointer to a key that is absent gives the line of its deepest parent that exists. Only the path is walked: the
    rest is skipped token by token, so the cost is one scan of the text.
    """
    wanted = [part.replace("~1", "/").replace("~0", "~") for part in json_pointer.split("/")[1:]]
    position = _find(text, wanted)
    return None if position is None else text.count("\n", 0, position) + 1


def _find(text: str, wanted: list[str]) -> int | None:
    """Walk the tokens with a stack of (container, key or index), and stop where it equals the wanted path."""
    best: int | None = None
    path: list[str] = []
    counters: list[int] = []  # -1 for an object, else the index in an array
    matched = 0
    pending_key: tuple[str, int] | None = None

    for match in _TOKEN.finditer(text):
        token, at = match.group(), match.start()
        if token == ":":
            continue
        if token == ",":
            if counters and counters[-1] >= 0:
                counters[-1] += 1
            pending_key = None
            continue
        if token in "]}":
            counters.pop() if counters else None
            if path:
                path.pop()
            matched = min(matched, len(path))
            continue
        inside_object = bool(counters) and counters[-1] == -1
        if inside_object and pending_key is None:
            pending_key = (json.loads(token) if token[0] == '"' else token, at)
            continue
        step = pending_key[0] if inside_object and pending_key else (str(counters[-1]) if counters else None)
        where = pending_key[1] if inside_object and pending_key else at
        if step is not None and matched == len(path) and matched < len(wanted) and wanted[matched] == step:
            best = where
            if matched + 1 == len(wanted):
                return best
            if token in "[{":
                matched += 1
        if step is None:
            best = at
            if not wanted:
                return best
        if token in "[{":
            if step is not None:
                path.append(step)
            counters.append(0 if token == "[" else -1)
        pending_key = None
    return best
