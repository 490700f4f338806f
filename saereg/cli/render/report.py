"""A validation report as text or JSON."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import click

from saereg.cli.render.text import plural, shorten
from saereg.schemas.report import Finding, Report

Source = Callable[[Path], list[str]]
"""File → its lines; none when it cannot be read."""

COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}

WIDEST_LINE = 160
"""Columns of a quoted source line; weights pasted into JSON are cut."""


def as_json(report: Report, root: Path) -> str:
    """Return the canonical JSON of a report."""
    return report.text()


def as_text(report: Report, root: Path) -> str:
    """Return a report for people: findings with their source line, then counts."""
    source = lru_cache(maxsize=4)(_lines)  # findings are sorted by file: each file is read once
    blocks = [_finding(finding, root, source) for finding in report.findings]
    return "\n".join([*blocks, _summary(report)]) + "\n"


RENDERERS: dict[str, Callable[[Report, Path], str]] = {"text": as_text, "json": as_json}
"""Format → renderer."""


def _finding(finding: Finding, root: Path, source: Source) -> str:
    where = ":".join(str(part) for part in (finding.path or finding.artifact or "release", finding.line) if part)
    label = click.style(f"{finding.severity} {finding.code}", fg=COLOURS[finding.severity], bold=True)
    lines = [f"{where}  {label}  {finding.message}"]
    lines += _quote(finding, root, source)
    if finding.expected or finding.found:
        parts = [
            f"{name}  {shorten(v, 70)}" for name, v in (("expected", finding.expected), ("found", finding.found)) if v
        ]
        lines.append("   " + "    ".join(parts))
    if finding.hint:
        lines.append(f"   fix  {finding.hint}   (saereg rule {finding.code})")
    return "\n".join(lines) + "\n"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _quote(finding: Finding, root: Path, source: Source) -> list[str]:
    """Return the source line with a caret line under what is meant."""
    if finding.path is None or finding.line is None:
        return []
    lines = source(root / finding.path)
    if finding.line > len(lines):
        return []
    shown = lines[finding.line - 1].rstrip()[:WIDEST_LINE]
    key = f'"{finding.pointer.rsplit("/", 1)[-1]}"' if finding.pointer else ""
    start = shown.find(key) if key and key in shown else len(shown) - len(shown.lstrip())
    margin = " " * len(str(finding.line))
    width = max(1, len(shown) - start)
    return [f"   {finding.line} | {shown}", f"   {margin} | {' ' * start}{'^' * width}"]


def _summary(report: Report) -> str:
    counts = report.summary
    graded = [
        plural(counts.errors, "error"),
        plural(counts.warnings, "warning"),
        plural(counts.notes, "note"),
    ]
    line = f"{report.release}: {plural(counts.artifacts, 'artifact')}, level {report.level}, {counts.checks} checks: "
    line += ", ".join(graded)
    reasons: dict[str, list[str]] = {}
    for skipped in counts.skipped:
        reasons.setdefault(skipped.reason, []).append(f"{skipped.check} of {skipped.artifact}")
    for reason, checks in reasons.items():
        line += f"\nnot checked: {shorten(', '.join(checks), 100)}: {reason}"
    return line
