"""Questions to a catalogue in SQL: whatever the text says, it can only read."""

import contextlib
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from saereg.errors import UsageError, did_you_mean
from saereg.registry.catalog.guard import FUNCTIONS, SECONDS, SIZES, Guard, guarded
from saereg.registry.catalog.store import catalog_path, reading
from saereg.registry.catalog.tables import DOCUMENTED, TABLES, VIEWS

Value: TypeAlias = str | int | float | bytes | None
"""What a cell of an answer is, and what a parameter can be."""

Parameters: TypeAlias = Mapping[str, Value] | Sequence[Value]

MEANING = {
    "artifacts": "one row per artifact, with its release, the numbers that stand for it, and its source",
    "metrics": "every number of every artifact, and who says it: measured or stated",
    "assumptions": "values that were inferred, and from what",
    "releases": "one row per release, with how far it can be trusted and its source",
    "latest": "of every release the version that is used where none is asked for",
    "source": "where rows come from: folder, repository, registry or inventory, and when it was read",
    "edge": "what a release or artifact belongs with or comes from",
    "alias": "second names of artifacts, such as canonical",
    "finding": "what validation found wrong with a release",
}
"""Documented table or view → what it holds."""

EXPRESSIONS = {
    ("artifacts", "reference"): "TEXT",
    ("artifacts", "release"): "TEXT",
    ("artifacts", "path"): "TEXT",
    ("artifacts", "withdrawn"): "TEXT",
    ("metrics", "reference"): "TEXT",
    ("metrics", "release"): "TEXT",
    ("metrics", "name"): "TEXT",
    ("assumptions", "reference"): "TEXT",
    ("assumptions", "release"): "TEXT",
    ("releases", "artifacts"): "INTEGER",
    ("releases", "findings"): "INTEGER",
    ("latest", "artifacts"): "INTEGER",
    ("latest", "findings"): "INTEGER",
    ("latest", "place"): "INTEGER",
}
"""Columns of views that are computed, for which SQLite names no type."""

_BATCH = 200
"""Rows that are fetched at once: the clock is stopped while the caller has them."""


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        columns: names, each once: a second `id` is `id:1`, as SQLite names it in a view.
        rows: one after the other; reading them is what takes the time.
    """

    columns: tuple[str, ...]
    rows: Iterator[tuple[Value, ...]]


@dataclass(frozen=True)
class Described:
    """A documented table or view: its name, what it holds, and column → type."""

    name: str
    meaning: str
    columns: Mapping[str, str]


def run(
    text: str, parameters: Parameters | None = None, *, catalog: str | Path | None = None, seconds: float = SECONDS
) -> list[dict[str, Value]]:
    """Ask a catalogue in SQL, and return one dictionary per row.

    Args:
        text: one SELECT; `saereg sql --schema` prints the tables and columns.
        parameters: values of `:name`, or of `?` in their order.
        catalog: file of the catalogue. Default: the user's.
        seconds: how long it may compute.

    Raises:
        UsageError: when the text is no query, wants more than to read, or takes longer.
    """
    path = Path(catalog) if catalog is not None else catalog_path()
    with asking(path, text, parameters, Guard(seconds)) as answer:
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


@contextlib.contextmanager
def asking(path: Path, text: str, parameters: Parameters | None = None, guard: Guard | None = None) -> Iterator[Answer]:
    """Put a question to a catalogue; its rows can be read in the block.

    Raises:
        UsageError: see `run`; while rows are read, too.
    """
    guard = guard or Guard()
    given = {} if parameters is None else parameters
    _require_used(text, given)
    with reading(path) as connection, guarded(connection, guard):
        with _explained(path, text, guard), guard.computing():
            cursor = connection.execute(text, given)
        if cursor.description is None:
            raise UsageError("the query is empty: write a SELECT; saereg sql --schema lists tables and columns")
        columns = _once([str(column[0]) for column in cursor.description])
        yield Answer(columns, _rows(cursor, path, text, guard))


def _rows(cursor: sqlite3.Cursor, path: Path, text: str, guard: Guard) -> Iterator[tuple[Value, ...]]:
    while True:
        with _explained(path, text, guard), guard.computing():
            rows = cursor.fetchmany(_BATCH)
        if not rows:
            return
        yield from rows


def _once(names: Sequence[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for name in names:
        free, number = name, 0
        while free in found:
            number += 1
            free = f"{name}:{number}"
        found[free] = None
    return tuple(found)


def _require_used(text: str, given: Parameters) -> None:
    """Refuse a named value that the query does not use: its name is misspelt in one of the two places."""
    if not isinstance(given, Mapping):
        return
    used = re.findall(r"[:@$](\w+)", text)
    for name in given:
        if name not in used:
            guess = did_you_mean(name, used)
            raise UsageError(f"the query has no :{name}" + (f"; did you mean :{guess}?" if guess else ""))


@contextlib.contextmanager
def _explained(path: Path, text: str, guard: Guard) -> Iterator[None]:
    """Turn every error of SQLite into one line that says what to do.

    Raises:
        UsageError: that line.
    """
    try:
        yield
    except UnicodeEncodeError:
        raise UsageError("the query or a parameter is no valid Unicode text") from None
    except OverflowError:
        raise UsageError("a parameter is a whole number of more than 64 bits") from None
    except MemoryError:
        raise UsageError(_too_much(guard)) from None
    except (sqlite3.Error, sqlite3.Warning) as error:
        if guard.stopped is None and str(error) == "interrupted":  # Ctrl-C in the progress handler, which sqlite3 eats
            raise KeyboardInterrupt from None
        raise UsageError(_problem(error, path, text, guard)) from None


def _problem(error: Exception, path: Path, text: str, guard: Guard) -> str:
    said = " ".join(str(error).split())
    if guard.stopped == "time":
        return too_long(guard)
    if guard.stopped == "memory":
        return _too_much(guard)
    if guard.refused:
        return f"not allowed: {guard.refused}; a query can read the catalogue and do nothing else"
    if isinstance(error, sqlite3.DatabaseError) and type(error) is sqlite3.DatabaseError:
        return f"{path}: {said}; the file is damaged: move it away and add its sources again (saereg registry add)"
    for pattern, explain in _SENTENCES.items():
        if found := re.search(pattern, said, re.IGNORECASE):
            return explain.format(said=said, name=found[1] if found.groups() else "", **_FACTS)
    return f"{said}{_place(said, text)}{_guess(said)}"


_FACTS = {"length": SIZES[sqlite3.SQLITE_LIMIT_LENGTH]}

_SENTENCES = {
    "one statement at a time": "one query at a time: there is a second statement after the first ;",
    "null character": "the query has a null character in it",
    "string or blob too big": "a text or row of more than {length:,} bytes: ask for rows instead of one long text",
    r"binding (?:parameter )?:?(\w+)\.?$": "no value for :{name}; give it with --param {name}=VALUE",
    "incorrect number of bindings": "as many values are needed as there are ? in the query",
    "has no name": "a ? in the query has no value: write :name, and give it with --param name=VALUE",
    "decode to utf-8": "a text in the answer is no valid UTF-8",
    "database is locked": "another process writes the catalogue: try again in a moment",
}
"""What SQLite says → what the user reads."""


def too_long(guard: Guard) -> str:
    """Return what is said of a query that was stopped by the clock."""
    return f"stopped after {guard.seconds:g} s: ask for less (WHERE, LIMIT), or allow more with --timeout"


def _too_much(guard: Guard) -> str:
    return f"stopped at {guard.memory / 1e9:g} GB of memory: ask for fewer rows or columns at once"


def _guess(said: str) -> str:
    """Return the name that was meant, where one is close."""
    found = re.search(r"no such (column|table|function): (.+)$", said)
    if found is None:
        return ""
    name = found[2].rpartition(".")[2]
    tables = describe()
    known = {
        "column": [column for one in tables for column in one.columns],
        "table": [one.name for one in tables],
        "function": sorted(FUNCTIONS),
    }
    if guess := did_you_mean(name.lower(), known[found[1]]):
        return f"; did you mean {guess}?"
    return "; saereg sql --schema lists tables and columns" if found[1] != "function" else ""


def _place(said: str, text: str) -> str:
    """Return where a syntax error is: the first place up to which the text already has the same error."""
    found = re.match(r'near "(.+)": syntax error$', said)
    if found is None:
        return ""
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        for match in list(re.finditer(re.escape(found[1]), text))[:_TRIED]:
            try:
                empty.execute(f"EXPLAIN {text[: match.end()]}")
            except sqlite3.Error as error:
                if " ".join(str(error).split()) == said:
                    line = text.count("\n", 0, match.start()) + 1
                    column = match.start() - (text.rfind("\n", 0, match.start()) + 1) + 1
                    return f" at line {line}, character {column}"
    return ""


_TRIED = 50
"""Places that are tried for a syntax error."""


def describe() -> tuple[Described, ...]:
    """Return the documented tables and views, from the definitions: no catalogue is needed."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(TABLES + VIEWS)
        return tuple(Described(name, MEANING[name], _columns(connection, name)) for name in DOCUMENTED)


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    rows = connection.execute("SELECT name, type FROM pragma_table_info(?)", (table,))
    return {str(name): str(kind or EXPRESSIONS.get((table, name), "")) for name, kind in rows}
