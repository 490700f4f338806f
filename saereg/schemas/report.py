"""The result of a validation: findings as data."""

import hashlib
from typing import Literal

from pydantic import Field

from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion, Sha256

Severity = Literal["error", "warning", "note"]
Level = Literal["layout", "header", "weights", "data"]

LEVELS: tuple[Level, ...] = ("layout", "header", "weights", "data")
"""From cheap to dear; each includes those before it."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From grave to light."""


class Finding(Record):
    """One problem."""

    code: str = Field(pattern=r"^SR[0-9]{3}$")
    """Rule; `saereg rule CODE` explains it."""
    severity: Severity
    """How grave it is."""
    message: str
    """What is wrong, in one sentence."""
    path: str | None = None
    """File, relative to the release."""
    artifact: str | None = None
    """Artifact concerned."""
    line: int | None = Field(default=None, ge=1)
    """Line in the file."""
    pointer: str | None = None
    """JSON pointer in the file."""
    expected: str | None = None
    """What should be there."""
    found: str | None = None
    """What is there."""
    hint: str | None = None
    """What to do next."""
    fixable: bool = False
    """Whether a tool can mend it."""
    url: str | None = None
    """Page of the rule."""
    origin: dict[str, str] = Field(default_factory=dict)
    """Tool and schema version."""
    fingerprint: str | None = Field(default=None, pattern=r"^[0-9a-f]{16}$")
    """Stable across runs and unrelated edits: the line is not part of it."""

    def with_fingerprint(self) -> "Finding":
        """Return the same finding with its fingerprint."""
        parts = (self.code, self.path, self.artifact, self.pointer, self.expected, self.found)
        digest = hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()[:16]
        return self.model_copy(update={"fingerprint": digest})


class Skipped(Record):
    """A check that could not run, and why."""

    check: str
    """Name of the check."""
    artifact: str | None = None
    """Artifact concerned."""
    reason: str
    """Why."""


class Summary(Record):
    """Counts."""

    artifacts: int = Field(ge=0)
    """Artifacts in the release."""
    errors: int = Field(ge=0)
    """Findings of severity error."""
    warnings: int = Field(ge=0)
    """Findings of severity warning."""
    notes: int = Field(ge=0)
    """Findings of severity note."""
    checks: int = Field(ge=0)
    """Checks that ran."""
    skipped: tuple[Skipped, ...] = ()
    """Checks that could not run."""


class Report(Document):
    """All findings of one validation. Same input, same report: it holds no time and no machine path."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    release: str
    """Name and version of the release, or of its folder when no manifest can be read."""
    level: Level
    """Depth of the validation."""
    release_digest: Sha256 | None = None
    """Digest over the manifest and the index: the report speaks of these bytes and no others."""
    findings: tuple[Finding, ...]
    """Findings, sorted by file, line and code."""
    summary: Summary
    """Counts."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings of severity error."""
        return tuple(finding for finding in self.findings if finding.severity == "error")
