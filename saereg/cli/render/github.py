"""A report as annotations of GitHub Actions: workflow commands on stdout."""

from saereg.cli.render.context import Context, gravest_first, headline, open_findings
from saereg.cli.render.text import plural, visible
from saereg.schemas.report import Finding, Report

COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}
"""Severity → workflow command."""

_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = _DATA | {":": "%3A", ",": "%2C"}


def as_github(report: Report, context: Context) -> str:
    """Return one annotation per finding that is not ignored, and a line that counts them.

    GitHub shows the first ten errors, warnings and notices of a step, so the gravest stand first.
    """
    findings = gravest_first(open_findings(report))
    shown = findings if context.most is None else findings[: context.most]
    lines = [_annotation(finding, context) for finding in shown]
    if len(shown) < len(findings):
        lines.append(f"… and {plural(len(findings) - len(shown), 'more finding')} (--max-findings {context.most})")
    ignored = f" ({report.summary.ignored} ignored)" if report.summary.ignored else ""
    return "\n".join([*lines, f"saereg: {visible(headline(report))}{ignored}"]) + "\n"


def _annotation(finding: Finding, context: Context) -> str:
    path = context.path(finding)
    properties = {"file": path, "line": finding.line if path else None, "col": finding.column if path else None}
    properties["title"] = finding.code
    said = ",".join(f"{name}={_escaped(str(v), _PROPERTY)}" for name, v in properties.items() if v is not None)
    parts = [finding.message, f"Fix: {finding.hint}" if finding.hint else "", finding.url or ""]
    if finding.artifact:
        parts[0] = f"{finding.artifact}: {finding.message}"
    return f"::{COMMANDS[finding.severity]} {said}::{_escaped(chr(10).join(p for p in parts if p), _DATA)}"


def _escaped(text: str, table: dict[str, str]) -> str:
    """Write out what would end the command or one of its properties, and other control characters."""
    plain = "".join(c if c in table or c.isprintable() else visible(c) for c in text)
    return "".join(table.get(c, c) for c in plain)
