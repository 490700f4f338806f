"""What changed between two releases, or two artifacts, and which version the changes demand."""

from typing import Literal

from pydantic import Field, JsonValue

from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion, Sha256
from saereg.schemas.names import ArtifactId, ReleasePath, Revision
from saereg.schemas.withdrawal import VERSION

Value = JsonValue
"""A value of a document, as JSON has it."""

ChangeKind = Literal[
    "artifact_added",
    "artifact_removed",
    "artifact_renamed",
    "artifact_moved",
    "weights_changed",
    "tensor_changed",
    "semantics_changed",
    "identity_changed",
    "site_changed",
    "loaded_file_moved",
    "config_changed",
    "file_added",
    "file_removed",
    "file_changed",
    "file_moved",
    "document_added",
    "document_removed",
    "document_changed",
    "document_moved",
    "role_changed",
    "label_changed",
    "canonical_set",
    "canonical_unset",
    "facts_changed",
    "assumption_added",
    "assumption_removed",
    "assumption_changed",
    "claim_added",
    "claim_removed",
    "claim_changed",
    "verdict_worse",
    "verdict_better",
    "verdict_changed",
    "metric_added",
    "metric_removed",
    "metric_drift",
    "metric_repeated",
    "metric_other_rows",
    "proof_added",
    "proof_removed",
    "proof_worse",
    "proof_better",
    "proof_changed",
    "evidence_added",
    "evidence_removed",
    "evidence_rebuilt",
    "release_renamed",
    "release_changed",
    "license_narrowed",
    "license_eased",
    "license_replaced",
    "license_changed",
    "definition_added",
    "definition_removed",
    "definition_changed",
    "withdrawal_added",
    "withdrawal_removed",
    "withdrawal_changed",
]
"""What a change is; `docs/differences.md` says of each which version it demands, and why."""

Level = Literal["none", "patch", "minor", "major"]
"""How much of a semantic version a change demands, the least first."""


class Change(Record):
    """One change."""

    kind: ChangeKind
    """What it is."""
    level: Level
    """What it demands of the version."""
    where: str
    """The field, file, tensor, metric or mark concerned: a file by its path, in an artifact that of its folder."""
    old: Value = None
    """What stood there before; null: nothing."""
    new: Value = None
    """What stands there now; null: nothing."""
    note: str | None = None
    """What else there is to know, e.g. by how much a number moved."""


class ArtifactDifference(Record):
    """One artifact of both releases that is not the same in them."""

    id: ArtifactId
    """Its id in the new release."""
    path: ReleasePath
    """Its folder in the new release."""
    old_id: ArtifactId
    """Its id in the old release."""
    old_path: ReleasePath
    """Its folder in the old release."""
    paired_by: Literal["id", "weights and identity", "weights", "identity", "hand"]
    """Why the two are one artifact: equal ids, equal digests of the weights, equal `identity` fields, or because the
    user named both."""
    changes: tuple[Change, ...]
    """What changed."""


class Listed(Record):
    """An artifact that only one of the releases has."""

    id: ArtifactId
    """Its id."""
    path: ReleasePath
    """Its folder."""


class Side(Record):
    """One of the two that are compared."""

    target: str
    """As the user named it."""
    name: str
    """Name of the release."""
    version: str = Field(pattern=VERSION)
    """Version that its manifest says."""
    commit: Revision | None = None
    """Commit that was read, on the Hub."""
    artifacts: int = Field(ge=0)
    """Artifacts in its manifest."""
    manifest_sha256: Sha256 | None = None
    """Digest of its manifest.json."""
    has_index: bool
    """Whether there is an index.json: without it files, weights, semantics and measured numbers are not known."""


class Advice(Record):
    """What the changes demand of the version."""

    level: Level
    """The highest level of all changes."""
    because: tuple[ChangeKind, ...] = ()
    """Kinds of changes of that level."""
    least: str | None = None
    """The lowest version that says as much, after the old one; null when nothing changed."""
    order: Literal["later", "equal", "earlier"]
    """Where the new version stands beside the old one (semver.org, 2.0.0, 11)."""
    fits: bool
    """Whether the new version says as much as the changes demand."""
    is_complete: bool
    """False where a side has no index.json, so that the changes may demand more."""
    overwritten: tuple[ArtifactId, ...] = ()
    """Artifacts whose weights differ although both versions are equal: a published version is never overwritten."""
    sentence: str
    """All this in a sentence."""


class Difference(Document):
    """What changed from an old release to a new one."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    old: Side
    """Before."""
    new: Side
    """Now."""
    compared: Literal["releases", "artifacts"] = "releases"
    """Whole releases, or one artifact of each."""
    notes: tuple[str, ...] = ()
    """What was not compared, and why."""
    release: tuple[Change, ...] = ()
    """Changes of the release as a whole."""
    added: tuple[Listed, ...] = ()
    """Artifacts that only the new release has."""
    removed: tuple[Listed, ...] = ()
    """Artifacts that only the old release has."""
    changed: tuple[ArtifactDifference, ...] = ()
    """Artifacts of both that differ, the renamed ones among them."""
    unchanged: int = Field(default=0, ge=0)
    """Artifacts of both in which nothing changed."""
    counts: dict[ChangeKind, int] = Field(default_factory=dict)
    """How many changes of each kind there are."""
    advice: Advice | None = None
    """What the changes demand of the version; null for two artifacts."""
