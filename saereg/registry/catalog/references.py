"""Names that only a catalogue knows: releases by name, their newest version, second names of artifacts.

name[@version]:artifact        an artifact of a release in the catalogue; without a version, of the newest
org/repo@latest:artifact       of the newest version of a repository in the catalogue
folder:path, org/repo:path     a file that an inventory of another make lists
…:canonical                    the author's pick, where there is one
"""

import json
import os
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.catalog.store import reading
from saereg.registry.files.natural import natural_key
from saereg.registry.refs import Reference, is_there

LATEST = "latest"

_NAMED = re.compile(r"^(?P<name>[^@:\s]+)(@(?P<version>[^@:\s]+))?(:(?P<id>\S+))?$")

MOST_NAMED = 8
"""Artifacts that a message names."""


@dataclass(frozen=True)
class Located:
    """One artifact of a catalogue.

    Attributes:
        id: its id in its release.
        path: folder or file in the release.
        repo: repository that holds its weights, or None.
        revision: commit there, where the catalogue pins it.
        folder: folder of the release on this machine, or None.
        release: name of the release.
        standing: `verified`, `unverified` or `foreign`.
        loader: for foreign ones, what reads its files.
    """

    id: str
    path: str
    repo: str | None
    revision: str | None
    folder: str | None
    release: str
    standing: str
    loader: str | None

    @property
    def reference(self) -> str:
        """It as a user would name it, pinned where it can be."""
        name = self.path if self.standing == "foreign" else self.id
        if self.repo is None:
            return f"{self.folder or self.release}:{name}"
        return f"{self.repo}@{self.revision}:{name}" if self.revision else f"hf://{self.repo}:{name}"


def locate(catalog: Path, text: str, reference: Reference) -> Located | None:
    """Return the artifact that a text names in a catalogue; None where the catalogue has no such release.

    Args:
        catalog: file of the catalogue; where there is none, nothing is found.
        text: what the user wrote.
        reference: what it means without a catalogue.

    Raises:
        UsageError: when it names a release, and not one artifact of it; or the file cannot be read.
        UnknownNameError: when the release has no such artifact.
    """
    if not catalog.is_file():
        return None
    with reading(catalog) as connection:
        connection.row_factory = sqlite3.Row
        place = _of_place(connection, reference)
        foreign = [row for row in place if row["standing"] == "foreign"]
        if place and reference.revision == LATEST and len(foreign) < len(place):
            return _artifact(connection, _newest(place), reference.artifact, text)
        if place:  # of releases of ours the Hub and the folder say what there is
            return _file(connection, foreign, reference) if len(foreign) == len(place) else None
        if reference.folder is not None and is_there(reference.folder):
            return None
        named = _of_name(connection, text, reference)
        return _artifact(connection, *named, text) if named else None


def _of_place(connection: sqlite3.Connection, reference: Reference) -> list[sqlite3.Row]:
    """Return the releases of a repository, at the revision that is named, or those of a folder."""
    if reference.repo is None:
        folder = os.path.abspath(reference.folder or "")
        return connection.execute("SELECT * FROM release WHERE folder = ?", (folder,)).fetchall()
    rows = connection.execute("SELECT * FROM release WHERE repo = ?", (reference.repo,)).fetchall()
    return [row for row in rows if _is_version(row, reference.revision)]


def _of_name(connection: sqlite3.Connection, text: str, reference: Reference) -> tuple[sqlite3.Row, str | None] | None:
    """Return the release that a text begins with the name of, and what follows; the name may hold any character."""
    match = _NAMED.match(text)
    name, version, artifact = match.group("name", "version", "id") if match else (text, None, None)
    rows = connection.execute("SELECT * FROM release WHERE name = ?", (name,)).fetchall()
    if rows:
        fitting = [row for row in rows if _is_version(row, version)]
        if not fitting and reference.repo is not None:
            return None
        if not fitting:
            raise UnknownNameError(f"version of {name}", version or "", {row["version"] or "none" for row in rows})
        return _of_one_author(fitting, name), artifact
    begins = "SELECT * FROM release WHERE substr(?1, 1, length(name) + 1) = name || ':' ORDER BY length(name) DESC"
    rows = connection.execute(begins, (text,)).fetchall()
    fitting = [row for row in rows if row["name"] == rows[0]["name"]]
    return (_of_one_author(fitting, rows[0]["name"]), text[len(rows[0]["name"]) + 1 :]) if rows else None


def _of_one_author(rows: list[sqlite3.Row], name: str) -> sqlite3.Row:
    """Return the newest of some releases of one name.

    Raises:
        UsageError: when they are in several repositories: they need not be of one author.
    """
    repos = sorted({row["repo"] for row in rows if row["repo"]})
    if len(repos) > 1:
        raise UsageError(f"{name} is the name of releases in {', '.join(repos)}: name the repository")
    return _newest(rows)


def _is_version(row: sqlite3.Row, version: str | None) -> bool:
    return version in (None, LATEST) or version.removeprefix("v") in (row["version"], row["revision"])


def _newest(rows: list[sqlite3.Row]) -> sqlite3.Row:
    """Return the newest version that is not taken back, as the view `latest` does."""
    return max(rows, key=_age)


def _age(row: sqlite3.Row) -> tuple[object, ...]:
    return row["withdrawn"] != "yanked", row["version_order"] or "", row["standing"] == "verified", -row["id"]


_FILES = """
    SELECT a.id, coalesce(a.path, a.id) AS path, r.repo, r.revision, r.folder, r.name, r.standing, r.loader
    FROM json_each(?) j JOIN artifact a ON a.release = j.value JOIN release r ON r.id = a.release
    WHERE {} = ? ORDER BY j.key, a.key"""


def _file(connection: sqlite3.Connection, releases: list[sqlite3.Row], reference: Reference) -> Located | None:
    """Return what is at a path of a repository or folder of another make, of which there may be several releases.

    An id will do where it means one file only: `layer_0` may be one of the residual stream, and one of an MLP. Of
    several rows of one file the newest is taken; where no revision is named, one without: so such a row is named.

    Raises:
        UsageError: when an id means several files.
    """
    ordered = sorted(releases, key=_age, reverse=True)
    if reference.revision is None:
        ordered.sort(key=lambda row: row["revision"] is not None)
    keys = json.dumps([row["id"] for row in ordered])
    for name in ("coalesce(a.path, a.id)", "a.id"):
        rows = connection.execute(_FILES.format(name), (keys, reference.artifact)).fetchall()
        paths = sorted({row["path"] for row in rows}, key=natural_key)
        if len(paths) == 1:
            return Located(*rows[0])
        if paths:
            listed = ", ".join(paths[:MOST_NAMED])
            place = reference.repo or reference.folder
            raise UsageError(f"{reference.artifact} is the id of several files of {place}: {listed}; name one")
    return None


def _artifact(connection: sqlite3.Connection, release: sqlite3.Row, wanted: str | None, text: str) -> Located:
    ids = _named(connection, release["id"], wanted) if wanted else _first(connection, release["id"])
    if len(ids) == 1:
        row = connection.execute(
            "SELECT coalesce(path, id) AS path FROM artifact WHERE release = ? AND id = ?", (release["id"], ids[0])
        ).fetchone()
        facts = (release[name] for name in ("repo", "revision", "folder", "name", "standing", "loader"))
        return Located(ids[0], row["path"], *facts)
    if not ids and wanted is not None:
        raise UnknownNameError("artifact", wanted, _first(connection, release["id"], 100_000))
    what = "artifacts" if wanted is None else f"artifacts called {wanted!r}"
    listed = ", ".join(ids[:MOST_NAMED]) + (", …" if len(ids) > MOST_NAMED else "")
    raise UsageError(
        f"{text} names {'several' if ids else 'no'} {what}{f': {listed}' if ids else ''}; name one by its id"
    )


_NAMINGS = (
    "SELECT id FROM artifact WHERE release = ? AND id = ?",
    "SELECT artifact AS id FROM alias WHERE release = ? AND name = ?",
    "SELECT id FROM artifact WHERE release = ? AND path = ?",
)


def _named(connection: sqlite3.Connection, release: int, wanted: str) -> list[str]:
    """Return the ids that a word may mean: an id itself, else a second name, else a path."""
    for query in _NAMINGS:
        if found := connection.execute(query, (release, wanted)).fetchall():
            return [row["id"] for row in found]
    return []


def _first(connection: sqlite3.Connection, release: int, most: int = MOST_NAMED + 1) -> list[str]:
    found = connection.execute("SELECT id FROM artifact WHERE release = ? LIMIT ?", (release, most)).fetchall()
    return sorted((row["id"] for row in found), key=natural_key)
