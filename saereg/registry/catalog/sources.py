"""From what a user types to the sources that it means."""

import os
import re
import sqlite3
from collections.abc import Collection
from pathlib import Path

from saereg.errors import NothingToValidateError, UsageError, did_you_mean
from saereg.registry.catalog.rows import Source
from saereg.registry.files.natural import natural_key
from saereg.registry.foreign.files import is_inventory, is_of_ours, open_inventory

SAELENS = "sae_lens"
"""Locator of the registry of the installed SAELens; one in a file of its own has the path of it."""

SAELENS_NAMES = ("sae_lens", "sae-lens", "saelens", "SAELens")

MANIFEST, INDEX = "manifest.json", "index.json"

DEFAULT_BRANCH = "main"

_REPO = r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)"
_HUB = re.compile(rf"(?:hf://)?{_REPO}(?:@(?P<revision>refs/\w+/[^/:\s]+|[^/:\s]+))?(?:/(?P<path>\S+\.json))?")
_ORGANIZATION = re.compile(r"(?:hf://)?(?P<org>[\w-][\w.-]*)/\*")

FORMS = "a release folder, hf://org/repo[@revision], hf://org/*, sae_lens, or an index.json or manifest.json"
"""What can be added, for messages."""


def sources_of(target: str, *, offline: bool = False) -> tuple[Source, ...]:
    """Return the sources that a target means; a folder or file of that name wins over a repository.

    Args:
        target: a release folder, a JSON file or a folder with one of another make, `hf://org/repo[@revision]`,
            `org/repo[@revision]`, `hf://org/repo/path.json`, `hf://org/*`, or `sae_lens`.
        offline: ask nobody: a repository is then taken for a release of saereg.

    Raises:
        UsageError: when it is none of these.
        NothingToValidateError: when a folder, repository or organization holds nothing that could enter a catalogue.
        PublishError: when the Hub does not answer, or has no such repository.
    """
    if not target.startswith("hf://") and os.path.lexists(target):
        return (_local(_named(os.path.abspath(target))),)
    if target in SAELENS_NAMES:
        return (Source("saelens", SAELENS),)
    if match := _ORGANIZATION.fullmatch(target):
        return _organization(match["org"], offline=offline)
    if match := _HUB.fullmatch(target):
        revision = _revision(match)
        if match["path"] not in (None, MANIFEST):
            return (Source("inventory", f"hf://{match['repo']}/{match['path']}", revision),)
        return (Source("hub", match["repo"], revision) if offline else _repository(match["repo"], revision),)
    raise UsageError(_unknown(target))


def matching(connection: sqlite3.Connection, target: str) -> tuple[Source, ...]:
    """Return the sources of a catalogue that a target means; nobody is asked.

    Without a revision all revisions of a repository are meant; `hf://org/*` are all of its repositories.

    Args:
        connection: an open catalogue.
        target: as it was added, or as `registry list` shows it.

    Raises:
        UsageError: when there is none, naming one that may have been meant.
    """
    rows = connection.execute("SELECT kind, locator, revision FROM source ORDER BY id").fetchall()
    known = [Source(kind, locator, revision) for kind, locator, revision in rows]
    found = tuple(source for source in known if _is_meant(source, target))
    if found:
        return found
    guess = did_you_mean(target, [name_of(source) for source in known] + [source.locator for source in known])
    hint = f"; did you mean {guess}?" if guess else "; saereg registry list shows what is"
    raise UsageError(f"{target} is no source of this catalogue{hint}")


def name_of(source: Source) -> str:
    """Return a source as a user would type it."""
    revision = f"@{source.revision}" if source.revision else ""
    if source.kind == "hub":
        return f"hf://{source.locator}{revision}"
    if match := _HUB.fullmatch(source.locator) if source.locator.startswith("hf://") else None:
        return f"hf://{match['repo']}{revision}/{match['path']}"
    return source.locator


def is_remote(source: Source) -> bool:
    """Whether the Hub must be asked for it."""
    return source.kind == "hub" or source.locator.startswith("hf://")


def _revision(match: "re.Match[str]") -> str:
    """Return the revision as a source has it: empty for the default branch."""
    return "" if match["revision"] in (None, DEFAULT_BRANCH) else match["revision"]


def _is_meant(source: Source, target: str) -> bool:
    if source.locator == SAELENS:
        return target in SAELENS_NAMES
    if target in (source.locator, name_of(source)):
        return True
    if not is_remote(source):
        path = Path(os.path.abspath(target))
        return source.locator in (str(path), str(path / MANIFEST), str(path / INDEX))
    if organization := _ORGANIZATION.fullmatch(target):
        return source.locator.removeprefix("hf://").startswith(f"{organization['org']}/")
    match = _HUB.fullmatch(target)
    if match is None or (match["revision"] and source.revision != _revision(match)):
        return False
    locator = source.locator.removeprefix("hf://")
    if match["path"] is None:
        return f"{locator}/".startswith(f"{match['repo']}/")
    return (f"{locator}/{MANIFEST}" if source.kind == "hub" else locator) == f"{match['repo']}/{match['path']}"


def _named(path: str) -> Path:
    """Return a path whose name a catalogue can hold: a file system takes any bytes, SQLite and JSON take text.

    Raises:
        UsageError: when it cannot.
    """
    shown = os.fsencode(path).decode(errors="backslashreplace")
    if shown != path:
        raise UsageError(f"{shown}: bytes of the name are no UTF-8, so no catalogue can hold it; give it another name")
    return Path(path)


def _local(path: Path) -> Source:
    """Return what a file or folder is: by what is in it, never by its name alone."""
    if path.is_file():
        if path.name in (MANIFEST, INDEX) and (path.parent / MANIFEST).is_file() and is_of_ours(path.read_bytes()):
            return Source("folder", str(path.parent))
        if path.suffix in (".yaml", ".yml"):
            return Source("saelens", str(path))
        if path.suffix != ".json":
            raise UsageError(f"{path} is no JSON file; a catalogue takes {FORMS}")
        return Source("inventory", str(path))
    if not path.is_dir():
        raise UsageError(f"{path} is a link to nothing")
    manifest = path / MANIFEST
    if manifest.is_file() and is_of_ours(manifest.read_bytes()):
        return Source("folder", str(path))
    inventory = _inventory_among([file for file in (path / INDEX, manifest) if file.is_file()])
    if inventory is not None:
        return Source("inventory", str(inventory))
    if manifest.is_file():  # it says why it cannot be read when it is
        return Source("folder", str(path))
    if (path / INDEX).is_file():
        open_inventory(path / INDEX)  # says why it is none
    raise NothingToValidateError(f"{path} holds no {MANIFEST} and no {INDEX}{_below(path)}")


def _inventory_among(files: list[Path]) -> Path | None:
    return next((file for file in files if is_inventory(file)), None)


def _below(path: Path) -> str:
    """Return a hint at releases one folder below."""
    try:
        found = sorted((entry.parent.name for entry in path.glob(f"*/{MANIFEST}")), key=natural_key)
    except OSError:
        return ""
    return f"; there is one in {path / found[0]}" if found else ""


def _organization(name: str, *, offline: bool) -> tuple[Source, ...]:
    from saereg.registry.remote import repositories_of

    if offline:
        raise UsageError(f"hf://{name}/*: the Hub must be asked which repositories there are")
    listed = repositories_of(name)
    found = [source for repo, paths in listed.items() if (source := _of_files(repo, "", paths)) is not None]
    if not found:
        what = "no repository that may be seen" if not listed else f"no repository with a {MANIFEST} or {INDEX}"
        raise NothingToValidateError(f"hf://{name}/*: {what}")
    return tuple(found)


def _of_files(repo: str, revision: str, paths: Collection[str]) -> Source | None:
    """Return what a repository is by the names of its files, so that it is one source however it was added.

    Of which make a manifest is, is seen when it is read.
    """
    if MANIFEST in paths:
        return Source("hub", repo, revision)
    return Source("inventory", f"hf://{repo}/{INDEX}", revision) if INDEX in paths else None


def _repository(repo: str, revision: str) -> Source:
    """Return what a repository on the Hub is, by its files."""
    from saereg.registry.hub import fetch_path, is_offline, name_of
    from saereg.registry.remote import open_repository

    if is_offline():
        return Source("hub", repo, revision)
    place = open_repository(repo, revision or None)
    found = _of_files(repo, revision, {entry.path for entry in place.entries() if entry.kind == "file"})
    if found is not None and found.kind == "inventory":
        found = found if is_inventory(fetch_path(repo, place.revision, INDEX) / INDEX) else None
    if found is None:
        raise NothingToValidateError(f"{name_of(repo, revision or None)} holds no {MANIFEST} and no {INDEX}")
    return found


def _unknown(target: str) -> str:
    """Return why a target is nothing, and what may have been meant."""
    path = Path(os.path.abspath(target)) if target.strip() else Path()
    try:
        beside = [entry.name for entry in path.parent.iterdir()] if target.strip() and "://" not in target else []
    except (OSError, ValueError):
        beside = []
    guess = did_you_mean(path.name, beside)
    if guess:
        return f"there is no {target}; did you mean {os.path.join(os.path.dirname(target), guess)}?"
    if word := did_you_mean(target, SAELENS_NAMES):
        return f"there is no {target}; did you mean {word}?"
    return f"there is no {target!r}; a catalogue takes {FORMS}"
