"""Reports that are kept: a release of which no file has changed is not validated again before it is published.

A report is used again only if everything that it came from is what it was:

* every entry of the release: path, size, mtime, ctime, inode and device. A file that was written less than two seconds
  before the validation may be written again without a trace in these; of such files the SHA-256 is compared. One byte
  changed in place with the mtime set back shows in the ctime, and on systems without one (Windows) not at all. What is
  sent is hashed anyway, and compared with the index;
* the source checkpoints that it was compared with, looked at in the same way, and the folder in which they are;
* configuration, options, device, the version of saereg and, since a clone changes without its version, its files; the
  versions of the libraries that compute; the sources of third-party checks, by their contents.

Some reports are never kept:

* those with errors: what could not be read a moment ago may be readable now;
* those of levels layout and header, which are quick;
* those that ran the author's code, the blocks of the card;
* those of level data where an evaluation is made by running a model, or from its parameters: the model is somewhere on
  this machine or on the Hub, and nothing here says that it is still there, or still the same;
* those of a release on the Hub.

A third-party check is held to what a check may do, to read the release through its subject alone.
"""

import contextlib
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

import saereg
from saereg.errors import DocumentError, SaeregError
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.digest import release_digest, sha256_of, sha256_text
from saereg.registry.files.folder import scan
from saereg.registry.files.state import Stamp, prune, state_folder
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE, checkpoints_beside
from saereg.registry.validators.options import Options
from saereg.registry.validators.plugins import GROUP
from saereg.registry.validators.runner import Progress, validate
from saereg.schemas import jsontext
from saereg.schemas.manifest import Manifest
from saereg.schemas.report import LEVELS, Level, Report, read_report
from saereg.schemas.settings import Settings

FOLDER = "reports"
"""Folder below the state folder."""

KEPT_LEVELS: tuple[Level, ...] = ("weights", "data")
"""Levels whose reports are kept."""

MOST = 200
"""How many reports are kept, the latest."""

MOST_HASHED = 256 * 1024 * 1024
"""Bytes of files written just before a validation that are hashed to remember it; with more it is not."""

MOST_SOURCES = 2_000
"""Files of a third-party check that are looked at; reports of larger ones are not kept."""

LIBRARIES = ("torch", "numpy", "safetensors", "sae-lens", "transformers", "pydantic", "PyYAML")
"""Distributions on whose versions a report may depend."""

INSIDE = frozenset({"activations", "synthetic"})
"""Sources of rows that are in the release, or in its manifest."""

_FORMAT = 1

_UNREADABLE = (OSError, SaeregError, jsontext.JsonError)
"""What reading a release may raise: of one that cannot be read nothing is kept, and the validation says why."""


@dataclass(frozen=True)
class Remembered:
    """A report that still holds.

    Attributes:
        report: the report.
        when: when it was made.
    """

    report: Report
    when: datetime


@dataclass(frozen=True)
class Fingerprint:
    """What a validation depends on, taken before it begins.

    Attributes:
        key: digest of release folder, configuration and options: the name of what is kept, without its level.
        environment: digest of the code that validates.
        state: digest of the files that are read.
        unsettled: those of them that count by their contents; the others count by their stamps.
        checkpoints: folder of source checkpoints, if there is one.
    """

    key: str
    environment: str
    state: str
    unsettled: tuple[str, ...]
    checkpoints: Path | None


@dataclass(frozen=True)
class _Kept:
    """What is in a file."""

    environment: str
    state: str
    unsettled: tuple[str, ...]
    when: datetime
    report: Report


def validated(
    root: Path,
    level: Level,
    settings: Settings,
    options: Options | None = None,
    progress: Progress | None = None,
) -> tuple[Report, datetime | None]:
    """Return the report of a release, and when it was made if it was made before; a new one is kept.

    Args:
        root: release folder.
        level: least depth.
        settings: configuration.
        options: what else is wanted.
        progress: called after each check.

    Raises:
        NothingToValidateError: when there is no manifest.
        UsageError: when the settings name what does not exist.
        MissingExtraError: without the `torch` extra.
    """
    if found := recall(root, level, settings, options):
        return found.report, found.when
    before = fingerprint(root, settings, options) if level in KEPT_LEVELS else None
    report = validate(root, level, options=options, settings=settings, progress=progress)
    remember(root, report, before)
    return report, None


def fingerprint(root: Path, settings: Settings, options: Options | None = None) -> Fingerprint | None:
    """Return what a validation that is about to begin depends on, or None when that cannot be said.

    Args:
        root: release folder.
        settings: configuration of the validation.
        options: its options.
    """
    options = options or Options()
    environment = _environment(settings.plugins)
    if options.run_snippets or environment is None:
        return None
    began, checkpoints = time.time_ns(), options.checkpoints or checkpoints_beside(root)
    try:
        stamps = dict(_stamps(root, checkpoints))
        unsettled = _unsettled(stamps, began)
        if sum(stamp.size for path in unsettled if (stamp := stamps[path])) > MOST_HASHED:
            return None
        state = _state(root, checkpoints, stamps, unsettled)
    except _UNREADABLE:
        return None
    return Fingerprint(_key(root, settings, options, checkpoints), environment, state, unsettled, checkpoints)


def remember(root: Path, report: Report, before: Fingerprint | None) -> bool:
    """Keep a report, if it may be used again; return whether it was kept.

    Args:
        root: release folder.
        report: its report.
        before: the fingerprint from before the validation; None: nothing is kept.
    """
    if before is None or report.level not in KEPT_LEVELS or report.revision is not None or report.errors:
        return False
    try:
        if report.level == "data" and not _is_self_contained(root):
            return False
        now = _state(root, before.checkpoints, dict(_stamps(root, before.checkpoints)), before.unsettled)
        if now != before.state or _digest_now(root) != report.release_digest:
            return False  # somebody wrote to the release meanwhile
    except _UNREADABLE:
        return False
    return _write(
        _file(before.key, report.level),
        _Kept(before.environment, before.state, before.unsettled, datetime.now(UTC), report),
    )


def recall(root: Path, level: Level, settings: Settings, options: Options | None = None) -> Remembered | None:
    """Return the report of an earlier validation, at this level or a deeper one, if nothing has changed since.

    Args:
        root: release folder.
        level: least depth.
        settings: configuration of the validation.
        options: its options.
    """
    options = options or Options()
    checkpoints = options.checkpoints or checkpoints_beside(root)
    key = _key(root, settings, options, checkpoints)
    kept = [(file, found) for file in _files(key, level) if (found := _read(file)) is not None]
    if options.run_snippets or not kept:
        return None
    environment, began = _environment(settings.plugins), time.time_ns()
    try:
        stamps, digest = dict(_stamps(root, checkpoints)), _digest_now(root)
        for file, found in kept:
            if found.environment != environment or found.report.release_digest != digest:
                continue
            if not stamps.keys() >= set(found.unsettled):
                continue
            if _state(root, checkpoints, stamps, found.unsettled) == found.state:
                _settle(file, found, _unsettled(stamps, began), root, checkpoints, stamps)
                return Remembered(found.report, found.when)
    except _UNREADABLE:
        pass
    return None


def _settle(
    file: Path,
    kept: _Kept,
    unsettled: tuple[str, ...],
    root: Path,
    checkpoints: Path | None,
    stamps: dict[str, Stamp | None],
) -> None:
    """Let files that counted by their contents count by their stamps, so that they are not hashed again.

    The stamps were taken before the contents were found to be the same: a write after them shows in either.
    """
    fewer = tuple(path for path in kept.unsettled if path in unsettled)
    if fewer != kept.unsettled:
        state = _state(root, checkpoints, stamps, fewer)
        _write(file, _Kept(kept.environment, state, fewer, kept.when, kept.report))


def _key(root: Path, settings: Settings, options: Options, checkpoints: Path | None) -> str:
    """Return what stands for a folder, a configuration and options.

    Of the options neither threads, nor models (see above), nor whether files are hashed (at these levels all are)
    changes a report that is kept.
    """
    where = os.path.realpath(root), os.path.realpath(checkpoints) if checkpoints else None
    return sha256_text(json.dumps([*where, settings.model_dump_json(), options.device]))[:32]


def _environment(plugins: tuple[str, ...]) -> str | None:
    """Return what stands for the code that validates, or None when that of a third-party check cannot be found."""
    machine = sys.version, sys.platform, platform.machine()
    own = Path(saereg.__file__).parent
    sources = [
        (path.relative_to(own).as_posix(), (found := path.stat()).st_size, found.st_mtime_ns)
        for path in sorted(own.rglob("*.py"))
    ]
    theirs = [_sources_of(name) for name in plugins]
    if None in theirs:
        return None
    versions = [_version(name) for name in LIBRARIES]
    return sha256_text(json.dumps([machine, saereg.__version__, sources, versions, theirs]))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _sources_of(plugin: str) -> list[list[str]] | None:
    """Return (file, SHA-256) of the Python files of the package in which a third-party check is, and its version."""
    points = [point for point in entry_points(group=GROUP) if point.name == plugin]
    if not points:
        return None
    point, found = points[0], []
    try:
        spec = importlib.util.find_spec(point.module.partition(".")[0])
        if spec is None or not (spec.origin or spec.submodule_search_locations):
            return None
        for file in _python_files(spec.submodule_search_locations or [str(spec.origin)]):
            found.append([str(file), sha256_of(file)])
            if len(found) > MOST_SOURCES:
                return None
    except (OSError, ImportError, ValueError):
        return None
    return [[point.value, point.dist.version if point.dist else ""], *found]


def _python_files(places: Iterable[str]) -> Iterator[Path]:
    for place in places:
        yield from sorted(Path(place).rglob("*.py")) if os.path.isdir(place) else [Path(place)]


def _stamps(root: Path, checkpoints: Path | None) -> Iterator[tuple[str, Stamp | None]]:
    """Yield every entry that a validation looks at, with its stamp; None for what is never opened, or not there.

    Raises:
        OSError: when an entry cannot be looked at.
        SaeregError: when the manifest, which names the source checkpoints, cannot be read.
    """
    for entry in scan(root):
        path = os.path.join(root, entry.path)
        yield f"{entry.kind}:{entry.path}", Stamp.of(os.stat(path)) if entry.kind == "file" else None
    if checkpoints is not None:
        sources = {
            a.source_checkpoint.path for a in Manifest.read(root / MANIFEST_FILE).artifacts if a.source_checkpoint
        }
        for path in sorted(sources):
            there = checkpoints / path
            yield f"checkpoint:{path}", Stamp.of(there.stat()) if there.is_file() else None


def _unsettled(stamps: dict[str, Stamp | None], began: int) -> tuple[str, ...]:
    return tuple(path for path, stamp in stamps.items() if stamp is not None and not stamp.is_settled(began))


def _state(root: Path, checkpoints: Path | None, stamps: dict[str, Stamp | None], unsettled: tuple[str, ...]) -> str:
    """Return one digest over all entries: of those that are unsettled over their contents, else over their stamps.

    Raises:
        OSError: when a file cannot be read.
    """
    places, by_contents = {"file": root, "checkpoint": checkpoints or root}, frozenset(unsettled)
    rows: list[list[object]] = []
    for name, stamp in stamps.items():
        kind, _, path = name.partition(":")
        if stamp is None:
            rows.append([name])
        elif name in by_contents:
            rows.append([name, stamp.size, sha256_of(places[kind] / path)])
        else:
            rows.append([name, *astuple(stamp)])
    return sha256_text(json.dumps(rows))


def _digest_now(root: Path) -> str:
    """Return the digest of manifest and index as they are."""
    manifest, index = (jsontext.decode((root / name).read_bytes()) for name in (MANIFEST_FILE, INDEX_FILE))
    return release_digest(manifest, index)


def _is_self_contained(root: Path) -> bool:
    """Whether the rows of every evaluation are in the release or can be made from what its manifest says."""
    return all(evaluation.source in INSIDE for evaluation in Manifest.read(root / MANIFEST_FILE).evaluations.values())


def _file(key: str, level: Level) -> Path:
    return state_folder() / FOLDER / f"{key}-{level}.json"


def _files(key: str, level: Level) -> list[Path]:
    """Return where reports of a level or a deeper one would be, the deepest first: a policy may ask for it."""
    return [_file(key, deeper) for deeper in reversed(LEVELS[LEVELS.index(level) :]) if deeper in KEPT_LEVELS]


def _write(file: Path, kept: _Kept) -> bool:
    """Write what is kept; a folder that cannot be written is no error."""
    head = {"format": _FORMAT, "environment": kept.environment, "state": kept.state, "unsettled": kept.unsettled}
    record = head | {"when": kept.when.isoformat(), "report": kept.report.model_dump(mode="json", exclude_none=True)}
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_text_atomically(file, json.dumps(record))
    except OSError:
        return False
    with contextlib.suppress(OSError):
        prune(file.parent, MOST)
    return True


def _read(file: Path) -> _Kept | None:
    """Return what a file holds, or None when there is none, or it is damaged or of another version."""
    try:
        record = json.loads(file.read_bytes())
        if record["format"] != _FORMAT:
            return None
        report = read_report(json.dumps(record["report"]), file)
        unsettled = tuple(str(path) for path in record["unsettled"])
        when = datetime.fromisoformat(record["when"])
        return _Kept(str(record["environment"]), str(record["state"]), unsettled, when, report)
    except (OSError, ValueError, TypeError, KeyError, RecursionError, DocumentError):
        return None
