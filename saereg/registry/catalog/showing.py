"""What a user means who wants to see something: what is at a place, or what the catalogue has by that name."""

import os
import re
import sqlite3
from pathlib import Path

from saereg.errors import NothingToValidateError, SaeregError, UsageError, did_you_mean
from saereg.registry.catalog.artifact import CatalogArtifact
from saereg.registry.catalog.references import LATEST, locate
from saereg.registry.catalog.selection import CatalogSelection
from saereg.registry.catalog.store import reading
from saereg.registry.refs import Reference, is_there, parse_reference, require_folder


def shown(target: str, catalog: Path) -> str | tuple[CatalogArtifact, ...]:
    """Return the place to open for a target, or the rows of another make that it names.

    Args:
        target: what the user wrote: a place, or a name that only a catalogue knows.
        catalog: file of the catalogue; there need not be one.

    Raises:
        NothingToValidateError: when it is no place, and no name of the catalogue.
        UsageError: when it names a release of another make, or no single artifact.
        UnknownNameError: when the release has no such artifact.
    """
    reference = parse_reference(target)
    if reference.folder is not None and is_there(reference.folder):
        return _listed_in(reference, catalog) or target
    release = _release(target, reference, catalog)
    if release is not None:
        return release
    found = None if reference.artifact is None else locate(catalog, target, reference)
    if found is not None and found.standing == "foreign":
        return tuple(CatalogSelection(catalog).find(reference=found.reference))
    if found is not None:
        return found.reference
    if reference.repo is None:
        raise NothingToValidateError(unknown(target, reference, catalog))
    return target


def openable(target: str, catalog: Path) -> str:
    """Return the place to open for a target that must be a release of saereg, or an artifact of one.

    Raises:
        NothingToValidateError: when it is no place, and no name of the catalogue.
        UsageError: when it is of another make, or no single artifact.
        UnknownNameError: when the release has no such artifact.
    """
    found = shown(target, catalog)
    if isinstance(found, str):
        return found
    raise UsageError(f"{target} is of another make: it has no manifest and no index that could be read")


def unknown(target: str, reference: Reference, catalog: Path) -> str:
    """Return what is said of a target that is no folder, and no name in a catalogue: with what may have been meant."""
    folder = reference.folder or Path(target)
    plain = said = f"{folder} is not a folder"
    try:
        require_folder(folder)
    except NothingToValidateError as error:
        said = str(error)
    if said != plain:  # it may not be read, or the one beside it was meant
        return said
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(folder)):
        return f"{plain}; a repository on the Hub is hf://{folder}, or {folder}@REVISION"
    if not catalog.is_file():
        return f"{plain}, and there is no catalogue that could know the name"
    with reading(catalog) as connection:
        names = [str(name) for (name,) in connection.execute("SELECT DISTINCT name FROM release")]
    guess = did_you_mean(str(folder).partition("@")[0], names)
    hint = f"; did you mean {guess!r}?" if guess else ""
    return f"{plain}, and no release of the catalogue has this name{hint}"


def _listed_in(reference: Reference, catalog: Path) -> tuple[CatalogArtifact, ...]:
    """Return the rows of a file that an inventory of another make lists; none where the folder is a release."""
    if reference.artifact is None or not catalog.is_file():
        return ()
    from saereg.registry.release import open_release

    try:
        open_release(str(reference.folder))
    except SaeregError:
        named = f"{os.path.abspath(reference.folder or '')}:{reference.artifact}"
        return tuple(CatalogSelection(catalog).find(reference=named, standing="foreign"))
    return ()


def _release(target: str, reference: Reference, catalog: Path) -> str | None:
    """Return where a release is that is named as a whole, by its name or as the latest of its repository.

    Raises:
        UsageError: when it is one of another make: there is no document to show.
    """
    latest = reference.repo is not None and reference.revision == LATEST
    if reference.artifact is not None or not catalog.is_file() or not (latest or reference.repo is None):
        return None
    name, _, version = target.partition("@")
    with reading(catalog) as connection:
        connection.row_factory = sqlite3.Row
        column, value = ("repo", reference.repo) if latest else ("name", name)
        rows = connection.execute(
            f"SELECT * FROM release WHERE {column} = ?"
            " ORDER BY withdrawn IS 'yanked', version_order DESC, standing <> 'verified', id",
            (value,),
        ).fetchall()
    wanted = version.removeprefix("v")
    for row in rows:
        if not latest and version not in ("", LATEST) and wanted not in (row["version"], row["revision"]):
            continue
        if row["standing"] == "foreign":
            raise UsageError(
                f"{target} is of another make, and has no manifest: saereg ls --where 'release_name = {row['name']}'"
                " lists what is in it"
            )
        return f"hf://{row['repo']}@{row['revision']}" if row["repo"] else str(row["folder"])
    return None
