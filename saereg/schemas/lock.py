"""saereg.lock: which bytes of which releases a project reads."""

from typing import Self

from pydantic import Field, model_validator

from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion, Sha256
from saereg.schemas.names import ArtifactId, ReleasePath, Revision

LOCK_FILE = "saereg.lock"
"""Its name; `saereg pull` reads the one in the current folder."""


class LockedFile(Record):
    """One file of a locked release."""

    path: ReleasePath
    """Path in the release."""
    size: int = Field(ge=0)
    """Bytes."""
    sha256: Sha256
    """Digest of the bytes."""


class LockedRelease(Record):
    """One release at one commit."""

    repo: str
    """Repository on the Hub, `org/name`."""
    requested: str | None = None
    """Revision that was asked for: a branch, tag or commit; null for the default branch."""
    commit: Revision
    """Commit that it was."""
    release: str
    """Name and version, as the manifest says."""
    manifest_sha256: Sha256
    """Digest of manifest.json at that commit."""
    index_sha256: Sha256
    """Digest of index.json at that commit; it holds the digests of all other files."""
    artifacts: tuple[ArtifactId, ...]
    """Ids of the artifacts that were chosen, sorted."""
    files: tuple[LockedFile, ...]
    """Files of these artifacts, sorted by path."""


class Lock(Document):
    """The releases that a project reads, pinned."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    releases: tuple[LockedRelease, ...]
    """One per repository, sorted."""

    @model_validator(mode="after")
    def _one_per_repository(self) -> Self:
        repos = [release.repo for release in self.releases]
        if repos != sorted(set(repos)):
            raise ValueError("`releases` must be sorted by `repo`, each repository once")
        return self
