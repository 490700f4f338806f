"""The release as a whole before and now: its words, licence, definitions, marks, and files of no artifact."""

from collections.abc import Iterator

from saereg.registry.differences.files import file_changes
from saereg.registry.differences.rules import IN_WORDS, change, license_change
from saereg.registry.differences.values import leaf_changes, leaves, plain
from saereg.registry.withdrawal import named, told
from saereg.schemas.difference import Change, ChangeKind, Value
from saereg.schemas.document import Record
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from saereg.schemas.withdrawal import Withdrawal

SECTIONS = ("base_models", "datasets", "sites", "evaluations")
"""Parts of a manifest that name things which artifacts refer to."""


def release_changes(old: Manifest, new: Manifest) -> Iterator[Change]:
    """Yield what the claims of a release say otherwise, beside its version and its artifacts."""
    for name in ("schema_version", "schema_url"):
        was, is_ = getattr(old, name), getattr(new, name)
        if was != is_:
            yield change("release_changed", name, was, is_)
    before, now = (leaves(plain(manifest.release)) for manifest in (old, new))
    before.pop("version")
    now.pop("version")

    def kind_of(path: str) -> ChangeKind:
        if path == "license":
            return license_change(old.release.license, new.release.license)
        return "release_renamed" if path == "name" else "release_changed"

    yield from leaf_changes(before, now, kind_of, "release.")
    for section in SECTIONS:
        yield from _definitions(section, getattr(old, section), getattr(new, section))
    yield from leaf_changes(_leaves(old.tokens), _leaves(new.tokens), _definition_kind, "tokens.")
    yield from leaf_changes(_leaves(old.canonical), _leaves(new.canonical), lambda _: "release_changed", "canonical.")
    yield from _marks(old, new)


def _leaves(record: Record | None) -> dict[str, Value]:
    return leaves(plain(record)) if record is not None else {}


def _definition_kind(path: str) -> ChangeKind:
    return "release_changed" if path in IN_WORDS else "definition_changed"


def _definitions(section: str, old: dict[str, Record], new: dict[str, Record]) -> Iterator[Change]:
    for key in dict.fromkeys((*old, *new)):
        where = f"{section}/{key}"
        if key not in new:
            yield change("definition_removed", where, plain(old[key]), None)
        elif key not in old:
            yield change("definition_added", where, None, plain(new[key]))
        elif old[key] != new[key]:
            yield from leaf_changes(_leaves(old[key]), _leaves(new[key]), _definition_kind, f"{where}/")


def _marks(old: Manifest, new: Manifest) -> Iterator[Change]:
    before, now = ({(m.version, m.artifact): m for m in manifest.withdrawn} for manifest in (old, new))
    for key in dict.fromkeys((*before, *now)):
        was, is_ = before.get(key), now.get(key)
        if was == is_:
            continue
        kind: ChangeKind = "withdrawal_changed"
        if was is None or is_ is None:
            kind = "withdrawal_added" if was is None else "withdrawal_removed"
        yield change(kind, _named(was or is_), told(was) if was else None, told(is_) if is_ else None)


def _named(mark: Withdrawal | None) -> str:
    return named(mark) if mark else ""


def index_changes(old: Index | None, new: Index | None) -> Iterator[Change]:
    """Yield what the evidence of a release says otherwise, beside that on its artifacts."""
    if old is None or new is None:
        if old is not new:
            yield change("evidence_added" if old is None else "evidence_removed", "index.json")
        return
    yield from file_changes(old.files, new.files)
    if old.generated_by != new.generated_by:
        yield change("evidence_rebuilt", "index.json", dict(old.generated_by), dict(new.generated_by))
    if old.schema_version != new.schema_version:
        yield change("evidence_rebuilt", "index.json: schema_version", old.schema_version, new.schema_version)
