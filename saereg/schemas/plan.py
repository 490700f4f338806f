"""What a publish will do, and what it did."""

from typing import Literal

from pydantic import Field

from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion, Sha256
from saereg.schemas.names import ReleasePath
from saereg.schemas.report import Level


class Operation(Record):
    """One file of the plan."""

    action: Literal["add", "change", "same", "remove"]
    """What happens to it at the target."""
    path: ReleasePath
    """Path in the release."""
    size: int = Field(ge=0)
    """Bytes."""
    sha256: Sha256
    """Digest that the target holds afterwards; for `remove`, the digest it holds before."""


class Plan(Document):
    """A publish, before it happens. It is made from a report without errors, and of that report's bytes only."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    release: str
    """Name and version of the release."""
    target: str
    """Where it goes, e.g. `dir:/srv/releases/x`."""
    release_digest: Sha256
    """Digest over manifest and index that the report vouches for."""
    validated_at_level: Level
    """Level of the report."""
    ignored: int = Field(default=0, ge=0)
    """Findings of the report that the configuration ignores, each with its reason."""
    lowered: int = Field(default=0, ge=0)
    """Errors that the configuration made warnings or notes."""
    base: Sha256 | None = None
    """State of the target when the plan was made; null when it is empty."""
    operations: tuple[Operation, ...]
    """One per file, sorted by path."""

    @property
    def is_noop(self) -> bool:
        """Whether the target already holds exactly this release."""
        return all(operation.action == "same" for operation in self.operations)


class Receipt(Document):
    """A publish, after it happened and was verified."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    release: str
    """Name and version of the release."""
    target: str
    """Where it went."""
    release_digest: Sha256
    """Digest over manifest and index."""
    base: Sha256 | None = None
    """State of the target before."""
    result: Sha256
    """State of the target after: digest over every path, size and sha256."""
    changed: bool
    """False when there was nothing to do."""
    added: int = Field(ge=0)
    """Files added."""
    replaced: int = Field(ge=0)
    """Files replaced."""
    removed: int = Field(ge=0)
    """Files removed."""
    bytes_written: int = Field(ge=0)
    """Bytes written."""
    seconds: float = Field(ge=0)
    """Time that applying the plan took."""
    files: tuple[Operation, ...]
    """Every file at the target, with the digest read back from it."""
