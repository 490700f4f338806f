"""The result of a validation: findings as data."""

import hashlib
from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from saereg.errors import DocumentError
from saereg.schemas import jsontext
from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion, Sha256, canonical

Severity = Literal["error", "warning", "note"]
Level = Literal["layout", "header", "weights", "data"]

FixKind = Literal["safe", "unsafe"]
"""`safe` fixes change no meaning; `unsafe` ones change what the author states."""

LEVELS: tuple[Level, ...] = ("layout", "header", "weights", "data")
"""From cheap to dear; each includes those before it."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From grave to light."""


class Finding(Record):
    """One problem."""

    code: str = Field(pattern=r"^[A-Z]{2,10}[0-9]{3}$")
    """Rule; `saereg rule CODE` explains it. SR is saereg's own, other letters are those of third-party checks."""
    severity: Severity
    """How grave it is, after profile, policy and configuration."""
    message: str
    """What is wrong, in one sentence."""
    path: str | None = None
    """File, relative to the release."""
    artifact: str | None = None
    """Artifact concerned."""
    line: int | None = Field(default=None, ge=1)
    """Line in the file, counted from 1."""
    column: int | None = Field(default=None, ge=1)
    """First column of what is meant in that line, counted from 1 in characters."""
    pointer: str | None = None
    """JSON pointer in the file."""
    expected: str | None = None
    """What should be there."""
    found: str | None = None
    """What is there."""
    hint: str | None = None
    """What to do next."""
    fixable: FixKind | None = None
    """Whether `saereg validate --fix` (`safe`) or `--unsafe-fixes` can mend it."""
    ignored: str | None = Field(default=None, min_length=1)
    """Reason for which the configuration ignores it; such a finding counts for nothing, and stays in the report."""
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


CUT_SHORT = "cheaper checks found errors in this artifact"
"""Why a check that reads weights is skipped; a report that says so allows no publishing, even with those ignored."""


NOT_PULLED = "they were not pulled"
"""Why files of the index were not looked at in a folder that `saereg pull` filled; a report that says so allows none
either."""


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
    ignored: int = Field(default=0, ge=0)
    """Findings that the configuration ignores; in none of the counts above."""
    lowered: int = Field(default=0, ge=0)
    """Findings that would be errors, and that profile, policy or configuration made warnings or notes."""
    unused_ignores: tuple[str, ...] = ()
    """Entries of the configuration that ignore something which is not there."""
    checks: int = Field(ge=0)
    """Checks that ran."""
    skipped: tuple[Skipped, ...] = ()
    """Checks that could not run."""


class ReportHead(Document):
    """What a report says beside its findings."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    release: str
    """Name and version of the release, or of its folder when no manifest can be read."""
    level: Level
    """Depth of the validation."""
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    """Commit that was validated, for a release on the Hub."""
    profile: str | None = None
    """Profile under which findings were graded."""
    policy: str | None = None
    """Policy under which findings were graded."""
    selected: tuple[str, ...] = ()
    """Rules and families that were looked at, where not all were; such a report allows no publishing."""
    release_digest: Sha256 | None = None
    """Digest over the manifest and the index: the report speaks of these bytes and no others."""
    summary: Summary
    """Counts."""


class Report(ReportHead):
    """All findings of one validation. Same input, same report: it holds no time and no machine path."""

    findings: tuple[Finding, ...]
    """Findings, sorted by file, line and code."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings of severity error that are not ignored."""
        return tuple(finding for finding in self.findings if finding.severity == "error" and not finding.ignored)

    def lines(self) -> str:
        """Return the report as JSON lines: what it says of the whole, then one finding per line."""
        dumped = self.model_dump(mode="json", exclude_none=True)
        findings = dumped.pop("findings")
        records = [{"record": "report", **dumped}, *({"record": "finding", **finding} for finding in findings)]
        return "".join(jsontext.compact(record) + "\n" for record in records)


class ReportRecord(ReportHead):
    """The first line of a report as JSON lines."""

    record: Literal["report"]
    """What this line is."""


class FindingRecord(Finding):
    """Any other line of a report as JSON lines."""

    record: Literal["finding"]
    """What this line is."""


REPORT_LINE: TypeAdapter[ReportRecord | FindingRecord] = TypeAdapter(
    Annotated[ReportRecord | FindingRecord, Field(discriminator="record")]
)
"""One line of a report as JSON lines."""

_REPORT = TypeAdapter(Report)


def read_report(text: str, source: object) -> Report:
    """Read a report, written as one JSON document or as JSON lines.

    Raises:
        DocumentError: when it is neither, or not whole: findings are missing at its end.
    """
    lines = _lines(text)
    value, places = _of_lines(lines, source) if lines else (_parsed(text, source), {})
    try:
        report = _REPORT.validate_json(canonical(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        location = first["loc"]
        line = places.get(location[1]) if location[:1] == ("findings",) and len(location) > 1 else None
        message = str(first["msg"])
        where = f"line {line}: " if line else ""
        problem = f"{where}no report of `saereg validate`: {message[:1].lower()}{message[1:]}"
        raise DocumentError(source, jsontext.pointer(location), problem) from None
    counts = Counter("ignored" if finding.ignored else finding.severity for finding in report.findings)
    said = report.summary
    if [said.errors, said.warnings, said.notes, said.ignored] != [counts[kind] for kind in (*SEVERITIES, "ignored")]:
        total = said.errors + said.warnings + said.notes + said.ignored
        problem = f"the report counts {total} findings and lists {len(report.findings)}: it is not whole, or was edited"
        raise DocumentError(source, "/findings", problem)
    return report


def _lines(text: str) -> list[str]:
    """Return the lines of a report that is written as JSON lines, none for a single document."""
    lines = text.split("\n")
    try:
        first = jsontext.parse(lines[0]) if lines else None
    except jsontext.JsonError:
        return []
    return lines if isinstance(first, dict) and "record" in first else []


def _of_lines(lines: list[str], source: object) -> tuple[dict[str, jsontext.JsonValue], dict[object, int]]:
    """Return the document that lines make up, and position of a finding → its line."""
    findings: list[jsontext.JsonValue] = []
    places: dict[object, int] = {}
    head: dict[str, jsontext.JsonValue] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        record = _parsed(line, source, number)
        wanted = "finding" if head else "report"
        if not isinstance(record, dict) or record.pop("record", None) != wanted:
            raise DocumentError(source, "", f"line {number}: no report of `saereg validate`: expected a {wanted} here")
        if head:
            places[len(findings)] = number
            findings.append(record)
        else:
            head = record
    return {**head, "findings": findings}, places


def _parsed(text: str, source: object, line: int | None = None) -> jsontext.JsonValue:
    try:
        return jsontext.parse(text)
    except jsontext.JsonError as problem:
        number = line or problem.line
        where = f"line {number}: " if number else ""
        raise DocumentError(source, "", f"{where}no report of `saereg validate`: {problem.problem}") from None
