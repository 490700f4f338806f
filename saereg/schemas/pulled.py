"""What `saereg pull` notes in a folder: what of a release is in it, and which of its files are its own."""

from pydantic import Field

from saereg.schemas.document import SCHEMA_VERSION, Document, SchemaVersion, Sha256
from saereg.schemas.names import ArtifactId, ReleasePath, Revision

PULLED_FILE = ".cache/saereg/pull.json"
"""Where it stands in the folder: in one that is no part of a release."""


class Pulled(Document):
    """A release that was pulled, whole or in part. Private to saereg: nothing else should read it."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    repo: str
    """Repository on the Hub, `org/name`."""
    commit: Revision
    """Commit that the folder is at."""
    artifacts: tuple[ArtifactId, ...]
    """Ids of the artifacts that are here."""
    absent: tuple[ReleasePath, ...] = ()
    """Files of the index that were left out, sorted."""
    digests: dict[ReleasePath, tuple[Sha256, ...]] = Field(default_factory=dict)
    """Files that pulls wrote → the digests that may stand there; two while one takes the place of another."""
