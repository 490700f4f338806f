"""The file of a catalogue: where it is, how it is opened, and which files are refused."""

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

from saereg.errors import UsageError
from saereg.registry.catalog.tables import APPLICATION_ID, ARTIFACT_INDEXES, TABLES, VERSION, VIEWS

VARIABLE = "SAEREG_CATALOG"
"""Environment variable that names the file."""

PATIENCE = 60.0
"""Seconds that one process waits for another that writes."""

LIST_SUFFIX = ".sources.json"
"""End of the name of the list of sources, which is kept beside the file: what a damaged one is built anew from."""

PROBLEMS = {
    "SQLITE_NOTADB": "it is no SQLite file",
    "SQLITE_CORRUPT": "it is damaged",
    "SQLITE_FULL": "the disk is full; nothing of this was written",
    "SQLITE_READONLY": "it may not be written",
    "SQLITE_PERM": "it may not be opened",
    "SQLITE_CANTOPEN": "it cannot be opened: is it a file, and may its folder be written?",
    "SQLITE_BUSY": "another process has written for too long; try again",
    "SQLITE_LOCKED": "another process has written for too long; try again",
    "SQLITE_IOERR": "the disk cannot be read or written",
}
"""What SQLite answers, or the start of it → what that means. Anything else is about the query, not the file."""

DAMAGED = ("SQLITE_CORRUPT", PROBLEMS["SQLITE_CORRUPT"])

REBUILT = ("SQLITE_NOTADB", "SQLITE_CORRUPT")
"""Those after which only a new file helps."""


def catalog_path() -> Path:
    """Return the file of the user's catalogue; nothing is made.

    `$SAEREG_CATALOG`, else `saereg/catalog.sqlite` in the folder for data of the system: it names the sources that the
    user added, so it is no cache.
    """
    if own := os.environ.get(VARIABLE):
        return Path(os.path.abspath(os.path.expanduser(own)))
    common = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(common):
        return Path(common) / "saereg" / "catalog.sqlite"
    try:
        home = Path.home()
    except RuntimeError:
        raise UsageError(f"this user has no home folder; name the catalogue with --catalog or {VARIABLE}") from None
    parts = {"darwin": ("Library", "Application Support"), "win32": ("AppData", "Local")}
    return home.joinpath(*parts.get(sys.platform, (".local", "share")), "saereg", "catalog.sqlite")


def list_of(path: Path) -> Path:
    """Return where the list of the sources of a catalogue is."""
    return path.with_name(path.name + LIST_SUFFIX)


def is_there(path: Path) -> bool:
    """Whether there is a file with anything in it, catalogue or not."""
    return path.exists() and (not path.is_file() or path.stat().st_size > 0)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a catalogue to be read; nothing can be written through the connection.

    Raises:
        UsageError: when there is none, or it cannot be read: see `check` and `PROBLEMS`.
    """
    if not is_there(path):
        how = "saereg registry sync makes it from" if list_of(path).is_file() else "saereg registry add makes one"
        where = f" {list_of(path)}" if list_of(path).is_file() else ""
        raise UsageError(f"{path}: there is no catalogue{'' if where else ' yet'}; {how}{where}")
    _require_file(path)
    with _told(path), contextlib.closing(_opened(path)) as connection:
        check(connection, path)
        connection.execute("PRAGMA query_only = ON")
        yield connection


@contextlib.contextmanager
def changing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a catalogue for one transaction, and make it where there is none: everything in the block, or nothing.

    Another process that writes is waited for. A new file gets the sources of the list beside it, where there is one;
    the list is brought up to date before the transaction ends.

    Raises:
        UsageError: when the file is no catalogue, or one that cannot be read or written.
    """
    _refuse_foreign(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: its folder cannot be made: {error.strerror}") from error
    with _told(path), contextlib.closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")
            if _is_empty(connection):
                _make(connection)
                _take_list(connection, path)
            check(connection, path)
            yield connection
            _keep_list(connection, path)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is no catalogue, or one of another version.

    Raises:
        UsageError: saying what to do; the file is left as it is.
    """
    with _told(path):
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise UsageError(f"{path}: no catalogue of saereg; it is left as it is: name another file with --catalog")
    if version != VERSION:
        raise UsageError(
            f"{path}: a catalogue of version {version}, and this saereg reads {VERSION}; it is left as it is: use the"
            f" saereg that made it, or {rebuilding(path)}"
        )


def rebuilding(path: Path) -> str:
    """Return in words how a catalogue is made anew; for that the old file is not needed."""
    if list_of(path).is_file():
        return f"move it away, and saereg registry sync --catalog {path} makes it anew from {list_of(path).name}"
    return f"move it away, and saereg registry add --catalog {path} TARGET… makes it anew"


def _opened(path: Path) -> sqlite3.Connection:
    """Open a file to be read. What a process that was killed left half written is undone first, as SQLite does."""
    connection = _connected(path, "ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if not str(error.sqlite_errorname).startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
            raise
        _play_back(path)
        return _connected(path, "ro")
    except BaseException:
        connection.close()
        raise
    return connection


def _play_back(path: Path) -> None:
    """Undo what the journal of a killed process says; only who may write can."""
    with contextlib.closing(_connected(path, "rw")) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError as error:
            if not str(error.sqlite_errorname).startswith("SQLITE_READONLY"):
                raise
            stopped = "a process that wrote it was stopped half way, and only who may write there can undo that"
            raise UsageError(f"{path}: {stopped}: run saereg registry list as that user") from error


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    address = f"file:{_quoted(path)}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None)


def _refuse_foreign(path: Path) -> None:
    """Refuse, before anything could be written, what is no catalogue; an empty file may become one."""
    if is_there(path):
        _require_file(path)
        with _told(path), contextlib.closing(_opened(path)) as connection:
            if not _is_empty(connection):
                check(connection, path)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"{path} is no file; name another with --catalog")


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell in one line what is the matter with the file; what is the matter with a query is left to who asks."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter where a message quotes damaged text
        problem = _problem(error) or (DAMAGED if _is_altered(path) else None)
        if problem is None:
            raise
        code, words = problem
        if code not in REBUILT:
            raise UsageError(f"{path}: {words}") from error
        detail = f" ({found})" if code == "SQLITE_CORRUPT" and (found := _damage(path)) else ""
        raise UsageError(f"{path}: {words}{detail}; it is left as it is: {rebuilding(path)}") from error


def _problem(error: Exception) -> tuple[str, str] | None:
    if str(error).startswith(
        "Could not decode to UTF-8"
    ):  # Python's, without a code: every text here is written as such
        return DAMAGED
    name = str(getattr(error, "sqlite_errorname", ""))
    return next(((code, words) for code, words in PROBLEMS.items() if name.startswith(code)), None)


def _damage(path: Path) -> str:
    """Return the first thing that SQLite's own check finds; empty when even that fails."""
    ignored = contextlib.suppress(sqlite3.Error, UnicodeDecodeError)
    with ignored, contextlib.closing(_connected(path, "ro")) as connection:
        found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        return "" if found == "ok" else " ".join(found.replace("*** in database main ***", "").split())
    return ""


def _is_altered(path: Path) -> bool:
    """Whether a catalogue lacks a table, index or view as it was made: its text is data too, and can be damaged."""
    query = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL"
    with contextlib.closing(sqlite3.connect(":memory:")) as made, contextlib.closing(_connected(path, "ro")) as own:
        _make(made)
        own.text_factory = made.text_factory = bytes  # a damaged text need not be UTF-8
        try:
            return not set(made.execute(query)) <= set(own.execute(query))
        except sqlite3.Error:
            return False
        except UnicodeDecodeError:
            return True


def _is_empty(connection: sqlite3.Connection) -> bool:
    marked = connection.execute("PRAGMA application_id").fetchone()[0]
    return not marked and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0


def _make(connection: sqlite3.Connection) -> None:
    for statement in (TABLES + VIEWS).split(";\n"):
        if statement.strip():
            connection.execute(statement)
    make_indexes(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def make_indexes(connection: sqlite3.Connection) -> None:
    """Make the indexes of `artifact`."""
    for name, columns in ARTIFACT_INDEXES.items():
        connection.execute(f"CREATE INDEX {name} ON artifact {columns}")


def _take_list(connection: sqlite3.Connection, path: Path) -> None:
    """Put the sources of the list beside a file into it; they are read by the next sync."""
    if not list_of(path).is_file():
        return
    from saereg.schemas.catalog_sources import CatalogSources

    listed = CatalogSources.read(list_of(path)).sources
    connection.executemany(
        "INSERT OR IGNORE INTO source (kind, locator, revision) VALUES (?, ?, ?)",
        ((one.kind, one.locator, one.revision) for one in listed),
    )


def _keep_list(connection: sqlite3.Connection, path: Path) -> None:
    """Write the list of sources beside a file where it is another one than that which is there."""
    from saereg.registry.files.atomic import write_text_atomically
    from saereg.schemas.document import SCHEMA_VERSION, canonical

    fields = ("kind", "locator", "revision")
    rows = connection.execute(f"SELECT {', '.join(fields)} FROM source ORDER BY {', '.join(fields)}")
    listed = [dict(zip(fields, row, strict=True)) for row in rows]
    text, to = canonical({"schema_version": SCHEMA_VERSION, "sources": listed}), list_of(path)
    try:
        if not to.is_file() or to.read_text(encoding="utf-8") != text:
            write_text_atomically(to, text)
    except OSError as error:
        raise UsageError(f"{to}: {error.strerror}; nothing of this was written") from error


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path.absolute()))
