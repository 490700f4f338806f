"""Sources read again, one by one: what did not change is left, what did is replaced whole, what fails is noted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import IntegrityError
from typing import Literal

from saereg.errors import ExitCode, PublishError, SaeregError
from saereg.registry.catalog.reading import Reader, reader_of
from saereg.registry.catalog.rows import Snapshot, Source
from saereg.registry.catalog.sources import is_remote
from saereg.registry.catalog.store import changing, reading
from saereg.registry.catalog.writing import add_source, now, remove_source, write

State = Literal["read", "unchanged", "left", "failed", "overtaken"]
"""`read`: its rows are new. `unchanged`: it is what it was. `left`: nobody was asked, being offline. `failed`: it could
not be read, and the rows that it had stay. `overtaken`: another process read it later, or removed it."""

GRAVITY = (ExitCode.CLEAN, ExitCode.FINDINGS, ExitCode.NOTHING_TO_VALIDATE, ExitCode.USAGE, ExitCode.NETWORK)
"""Exit codes, the worst one last."""


NEVER_READ = "not read yet: offline, and not (or only in part) in the local cache"


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to sync.

    Attributes:
        offline: ask nobody: repositories stay as they are; one that was never read is looked for in the local cache.
        again: read also what did not change.
    """

    offline: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one source.

    Attributes:
        source: the source.
        state: what happened.
        pin: commit or digest of its rows; None while it has none.
        artifacts: how many it has now.
        wrong: its releases with errors among their findings.
        problem: why it could not be read.
        code: what a command should answer for it.
    """

    source: Source
    state: State
    pin: str | None = None
    artifacts: int = 0
    wrong: int = 0
    problem: str | None = None
    code: ExitCode = ExitCode.CLEAN


@dataclass(frozen=True, slots=True)
class Stored:
    """What a catalogue knows of a source.

    Attributes:
        source: the source.
        pin: commit or digest of its rows; None before the first time.
        tool: what made them.
        synced: when they were read.
    """

    source: Source
    pin: str | None
    tool: str | None
    synced: str | None


def add(path: Path, sources: Sequence[Source]) -> None:
    """Put sources into a catalogue, without reading them; those that are there stay.

    Raises:
        UsageError: when the file cannot be used; see `saereg.registry.catalog.store`.
    """
    with changing(path) as connection:
        for source in sources:
            add_source(connection, source)


def remove(path: Path, sources: Sequence[Source]) -> None:
    """Take sources and their rows out of a catalogue.

    Raises:
        UsageError: when the file cannot be used.
    """
    with changing(path) as connection:
        for source in sources:
            remove_source(connection, source)


def sync(
    path: Path,
    sources: Sequence[Source] | None = None,
    wishes: Wishes = Wishes(),
    told: Callable[[Outcome], None] = lambda outcome: None,
) -> tuple[Outcome, ...]:
    """Bring a catalogue up to date. Each source is a transaction of its own, and none stops the others.

    Those that were never read come first, then those that were asked longest ago: one that was interrupted goes on
    where it was.

    Args:
        path: the catalogue.
        sources: which of its sources; None: all.
        wishes: how.
        told: called with each outcome.

    Raises:
        UsageError: when the file cannot be used.
    """
    outcomes = []
    for stored in _in_order(path, sources):
        outcomes.append(_sync_one(path, stored, wishes))
        told(outcomes[-1])
    return tuple(outcomes)


def worst(codes: Sequence[ExitCode]) -> ExitCode:
    """Return what a command answers that did several things."""
    return max(codes, key=GRAVITY.index, default=ExitCode.CLEAN)


def _in_order(path: Path, sources: Sequence[Source] | None) -> list[Stored]:
    with reading(path) as connection:
        rows = connection.execute(
            "SELECT kind, locator, revision, pin, tool, synced FROM source ORDER BY checked IS NOT NULL, checked, id"
        ).fetchall()
    known = [Stored(Source(*row[:3]), *row[3:]) for row in rows]
    return [stored for stored in known if sources is None or stored.source in sources]


def _sync_one(path: Path, stored: Stored, wishes: Wishes) -> Outcome:
    source, moment = stored.source, now()
    offline = is_remote(source) and _is_offline(wishes)
    if offline and (stored.pin is not None or source.kind != "hub"):
        return _outcome(path, source, "left")
    try:
        reader = reader_of(source.kind, offline=offline)
        found = None if _is_current(path, stored, reader, wishes) else reader.snapshot(source)
    except PublishError as error:
        if offline:
            return _noted(path, source, moment, NEVER_READ, "left", ExitCode.CLEAN)
        return _noted(path, source, moment, str(error), "failed", error.exit_code)
    except SaeregError as error:
        return _noted(path, source, moment, str(error), "failed", error.exit_code)
    except OSError as error:
        problem = f"{error.filename or source.locator}: {error.strerror or error}"
        return _noted(path, source, moment, problem, "failed", ExitCode.USAGE)
    if found is None:
        return _checked(path, source, moment)
    try:
        return _written(path, found, moment)
    except (IntegrityError, OverflowError, UnicodeEncodeError) as error:  # nothing of it was written
        problem = f"it has a value that no catalogue can hold: {error}; please report it"
        return _noted(path, source, moment, problem, "failed", ExitCode.USAGE)


def _is_offline(wishes: Wishes) -> bool:
    from saereg.registry.hub import is_offline

    return wishes.offline or is_offline()


def _is_current(path: Path, stored: Stored, reader: Reader, wishes: Wishes) -> bool:
    """Whether the rows of a source are those that reading it would give; asks for as little as tells."""
    if wishes.again or stored.pin is None or stored.tool is None or not stored.tool.startswith(reader.tool):
        return False
    return reader.pin(stored.source) == stored.pin and not reader.is_marked(path, stored.source)


def _written(path: Path, snapshot: Snapshot, moment: str) -> Outcome:
    source = snapshot.source
    with changing(path) as connection:
        query = "SELECT synced FROM source WHERE (kind, locator, revision) = (?, ?, ?)"
        row = connection.execute(query, (source.kind, source.locator, source.revision)).fetchone()
        overtaken = row is None or (row[0] or "") > moment
        if not overtaken:
            write(connection, snapshot, moment)
    return _outcome(path, source, "overtaken" if overtaken else "read")


def _checked(path: Path, source: Source, moment: str) -> Outcome:
    with changing(path) as connection:
        connection.execute(
            "UPDATE source SET checked = ?, problem = NULL WHERE (kind, locator, revision) = (?, ?, ?)",
            (moment, source.kind, source.locator, source.revision),
        )
    return _outcome(path, source, "unchanged")


def _noted(path: Path, source: Source, moment: str, problem: str, state: State, code: ExitCode) -> Outcome:
    line = " ".join(problem.split())
    with changing(path) as connection:
        connection.execute(
            "UPDATE source SET checked = ?, problem = ? WHERE (kind, locator, revision) = (?, ?, ?)",
            (moment, line, source.kind, source.locator, source.revision),
        )
    return _outcome(path, source, state, line, code)


def _outcome(
    path: Path, source: Source, state: State, problem: str | None = None, code: ExitCode = ExitCode.CLEAN
) -> Outcome:
    where = (source.kind, source.locator, source.revision)
    with reading(path) as connection:
        query = "SELECT id, pin FROM source WHERE (kind, locator, revision) = (?, ?, ?)"
        key, pin = connection.execute(query, where).fetchone() or (None, None)
        of = "FROM release r WHERE r.source = ?"
        count = f"SELECT count(*) FROM artifact WHERE release IN (SELECT r.id {of})"
        wrong = (
            f"SELECT count(*) {of} AND r.standing != 'foreign' AND EXISTS"
            " (SELECT 1 FROM finding f WHERE f.release = r.id AND f.severity = 'error')"
        )
        artifacts, errors = (int(connection.execute(one, (key,)).fetchone()[0]) for one in (count, wrong))
    if state in ("read", "unchanged") and errors:
        code = ExitCode.FINDINGS
    return Outcome(source, state, pin, artifacts, errors, problem, code)
