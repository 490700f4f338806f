"""What a query may do: read this catalogue, for some seconds, in some memory, and nothing else.

The connection is read-only as it is (`store.reading`). SQL can do more than write, though: `VACUUM INTO` and `ATTACH`
make files, `load_extension` runs code, and one line of it computes for ever or fills the memory. So every action is
looked up in `ALLOWED`, every function in `FUNCTIONS`, and a query that takes too long or too much is stopped.
"""

import contextlib
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 10.0
"""How long a query may compute, unless the caller says otherwise."""

MEMORY = 1_000_000_000
"""Bytes that a process may grow by while a query computes."""

ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
"""Actions of SQLite's authorizer that are allowed; READ, FUNCTION and PRAGMA each have a table of their own below."""

PRAGMAS = frozenset({"table_info", "table_xinfo", "table_list", "index_list", "index_info"})
"""Pragmas that only describe tables."""

VIRTUAL = frozenset(
    {"json_each", "json_tree", "sqlite_schema", "sqlite_master", *(f"pragma_{name}" for name in PRAGMAS)}
)
"""What may be read beside the tables and views of the catalogue."""

FUNCTIONS = frozenset(
    (
        # aggregates and windows
        "avg", "count", "group_concat", "max", "min", "sum", "total", "cume_dist", "dense_rank", "first_value", "lag",
        "last_value", "lead", "nth_value", "ntile", "percent_rank", "rank", "row_number",
        # numbers
        "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "ceiling", "cos", "cosh", "degrees",
        "exp", "floor", "ln", "log", "log10", "log2", "mod", "pi", "pow", "power", "radians", "round", "sign", "sin",
        "sinh", "sqrt", "tan", "tanh", "trunc",
        # texts: trim takes a time quadratic in the length, in one step that nothing can stop; of a text that is too
        # long printf makes NULL without a word
        "char", "glob", "hex", "instr", "length", "like", "lower", "quote", "replace", "substr", "substring", "unicode",
        "upper",
        # choices
        "coalesce", "ifnull", "iif", "likelihood", "likely", "nullif", "typeof", "unlikely",
        # times
        "current_date", "current_time", "current_timestamp", "date", "datetime", "julianday", "strftime", "time",
        "unixepoch",
        # JSON
        "->", "->>", "json", "json_array", "json_array_length", "json_extract", "json_group_array", "json_object",
        "json_group_object", "json_quote", "json_type", "json_valid",
    )
)  # fmt: skip
"""Functions that only compute, and in a time that the length of their arguments bounds."""

SIZES = {
    sqlite3.SQLITE_LIMIT_LENGTH: 400_000,  # bytes of a text, a blob, a row: bounds what one step of a query takes
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 500,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 1_000_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 100,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 32_766,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
"""Category of `sqlite3.Connection.setlimit` → its limit; see https://sqlite.org/limits.html."""

_STEPS = 1_000
"""Steps of SQLite's machine between two looks at the clock: some ten microseconds."""

_GRACE = 1.0
"""Seconds after which SQLite has missed the limit."""

_LOOK = 0.02
"""Seconds between two looks at the memory: in such a time no query takes more than 0.1 GB."""

ACTIONS = {
    getattr(sqlite3, f"SQLITE_{name}"): name.replace("_", " ").lower()
    for name in (
        "CREATE_INDEX", "CREATE_TABLE", "CREATE_TRIGGER", "CREATE_VIEW", "CREATE_TEMP_INDEX", "CREATE_TEMP_TABLE",
        "CREATE_TEMP_TRIGGER", "CREATE_TEMP_VIEW", "CREATE_VTABLE", "DROP_INDEX", "DROP_TABLE", "DROP_TRIGGER",
        "DROP_VIEW", "DROP_TEMP_INDEX", "DROP_TEMP_TABLE", "DROP_TEMP_TRIGGER", "DROP_TEMP_VIEW", "DROP_VTABLE",
        "DELETE", "INSERT", "UPDATE", "ALTER_TABLE", "REINDEX", "ANALYZE", "ATTACH", "DETACH", "PRAGMA", "TRANSACTION",
        "SAVEPOINT", "FUNCTION", "READ",
    )
}  # fmt: skip
"""Action → how a refusal names it."""

_SCHEMAS = ("sqlite_master", "sqlite_temp_master")


_PAGES = Path("/proc/self/statm")
_PAGE = 4096
"""Bytes of a page; where pages are larger, less is counted than there is."""


def resident() -> int:
    """Return the bytes of memory of this process; where the system does not say it, the most that it ever had."""
    with contextlib.suppress(OSError):
        return int(_PAGES.read_bytes().split()[1]) * _PAGE
    try:
        import resource
    except ImportError:  # Windows: the time limit alone holds
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass
class Guard:
    """One query's clock, and why it was stopped or refused.

    Attributes:
        seconds: how long it may compute; what the caller does between two rows does not count.
        memory: bytes that the process may grow by.
        alone: whether the process is here for this query: then SQLite gets no more memory than this for the rest of its
            life, which holds while a query is read, too. No other program that uses SQLite can be told so.
        refused: what it wanted and may not, in words; None where nothing was refused.
        stopped: why it was ended, in words.
    """

    seconds: float = SECONDS
    memory: int = MEMORY
    alone: bool = False
    refused: str | None = None
    stopped: str | None = None
    readable: frozenset[str] = field(default=VIRTUAL, repr=False)
    _spent: float = field(default=0.0, repr=False)
    _computing: bool = field(default=False, repr=False)
    _since: float = field(default_factory=time.monotonic, repr=False)
    _looked: float = field(default_factory=time.monotonic, repr=False)
    _at_first: int = field(default_factory=resident, repr=False)

    def allow(self, action: int, first: str | None, second: str | None, schema: str | None, inside: str | None) -> int:
        """Answer SQLite's authorizer: anything that is not in a table is refused."""
        if self._is_allowed(action, first, second):
            return sqlite3.SQLITE_OK
        name = second if action == sqlite3.SQLITE_FUNCTION else first
        words = [ACTIONS.get(action, f"action {action}"), *([name] if name else [])]
        if name in _SCHEMAS and action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE):
            words = ["changing tables"]
        self.refused = self.refused or " ".join(words)
        return sqlite3.SQLITE_DENY

    def _is_allowed(self, action: int, first: str | None, second: str | None) -> bool:
        if action == sqlite3.SQLITE_FUNCTION:
            return (second or "").lower() in FUNCTIONS
        if action == sqlite3.SQLITE_READ:  # without a column: rows are only counted, of a subquery too
            return not second or (first or "").lower() in self.readable
        if action == sqlite3.SQLITE_PRAGMA:
            return (first or "").lower() in PRAGMAS
        return action in ALLOWED

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Let the clock run in this block only."""
        self._since, self._computing = time.monotonic(), True
        try:
            yield
        finally:
            self._computing = False
            self._spent += time.monotonic() - self._since

    @property
    def overdue(self) -> bool:
        """Whether a query computes on a second after its limit: SQLite looks at no clock while it reads the text."""
        return self._computing and self._spent + time.monotonic() - self._since > self.seconds + _GRACE

    def look(self) -> int:
        """Answer SQLite's progress handler: anything but 0 ends the query."""
        now = time.monotonic()
        if not self._spent + now - self._since <= self.seconds:  # so said, a limit that is no number is none to pass
            self.stopped = "time"
            return 1
        if now - self._looked > _LOOK:
            self._looked = now
            if resident() - self._at_first > self.memory:
                self.stopped = "memory"
                return 1
        return 0


@contextlib.contextmanager
def guarded(connection: sqlite3.Connection, guard: Guard | None = None) -> Iterator[Guard]:
    """Let a connection do nothing but read its own tables, within limits, in this block and after it.

    Args:
        connection: one of `store.reading`.
        guard: its limits; the clock starts now, unless the caller uses `Guard.computing`.
    """
    guard = guard or Guard()
    connection.execute("PRAGMA temp_store = MEMORY")  # sorting makes no files: they would fill the disk unseen
    connection.execute("PRAGMA trusted_schema = OFF")  # a catalogue may come from somebody else, with its views
    if guard.alone:
        connection.execute(f"PRAGMA hard_heap_limit = {guard.memory}")
    names = connection.execute("SELECT lower(name) FROM sqlite_master WHERE type IN ('table', 'view')")
    guard.readable = VIRTUAL | {str(name) for (name,) in names}
    for name in VIRTUAL:  # made on first use, which is no read: so here
        connection.execute(f"SELECT 1 FROM {name} LIMIT 0")
    for category, limit in SIZES.items():
        connection.setlimit(category, limit)
    connection.set_authorizer(guard.allow)
    connection.set_progress_handler(guard.look, _STEPS)
    try:
        yield guard
    finally:
        connection.set_progress_handler(None, 0)
