"""A report as Markdown, for the summary of a CI job or a comment."""

from saereg.cli.render.context import Context, gravest_first, headline, open_findings
from saereg.cli.render.text import plural, visible
from saereg.schemas.report import Finding, Report

OPEN_ROWS = 50
"""Findings beyond these are in a section that is closed at first."""

LARGEST = 900_000
"""Bytes of all findings; GitHub takes one mebibyte for the summary of a step and drops a larger one."""

_MARKS = set("\\`*_[]|~#!")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;"}


def as_markdown(report: Report, context: Context) -> str:
    """Return a verdict, the counts, a table of what was found, and what was ignored or not checked."""
    fails = any(context.fails(finding) for finding in report.findings)
    verdict = "failed" if fails else "passed"
    counts = report.summary
    parts = [
        f"## {context.command}: {verdict}",
        escaped(headline(report)),
        "| errors | warnings | notes | ignored | not checked |\n|---:|---:|---:|---:|---:|\n"
        f"| {counts.errors} | {counts.warnings} | {counts.notes} | {counts.ignored} | {len(counts.skipped)} |",
    ]
    parts += _findings(gravest_first(open_findings(report)), context)
    ignored = [finding for finding in report.findings if finding.ignored]
    parts += _section(
        f"{len(ignored)} ignored", [f"- `{f.code}` {_where(f)}: {escaped(f.ignored or '')}" for f in ignored]
    )
    parts += [f"Unused ignore: {escaped(entry)}" for entry in counts.unused_ignores]
    reasons = dict.fromkeys(skipped.reason for skipped in counts.skipped)
    missed = [(r, sum(s.reason == r for s in counts.skipped)) for r in list(reasons)[:OPEN_ROWS]]
    parts += _section("not checked", [f"- {escaped(reason)} ({count} ×)" for reason, count in missed])
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Return a text of one line in which no character means anything to Markdown or HTML."""
    return "".join(_ENTITIES.get(c, f"\\{c}" if c in _MARKS else c) for c in visible(text))


def _findings(findings: list[Finding], context: Context) -> list[str]:
    if not findings:
        return []
    most = len(findings) if context.most is None else context.most
    rows: list[str] = []
    size = 0
    for finding in findings[:most]:
        row = _row(finding, context)
        size += len(row.encode("utf-8")) + 1
        if size > LARGEST:
            break
        rows.append(row)
    parts = [_table(rows[:OPEN_ROWS])] if rows else []
    if len(rows) > OPEN_ROWS:
        parts += _folded(f"{len(rows) - OPEN_ROWS} more", _table(rows[OPEN_ROWS:]))
    if len(rows) < len(findings):
        parts.append(f"… and {plural(len(findings) - len(rows), 'more finding')}, not listed here.")
    return parts


def _table(rows: list[str]) -> str:
    return "\n".join(["| | rule | where | problem | fix |", "|---|---|---|---|---|", *rows])


def _row(finding: Finding, context: Context) -> str:
    rule = f"[{finding.code}]({finding.url})" if _is_plain(finding.url) else finding.code
    cells = [finding.severity, rule, _where(finding), escaped(finding.message), escaped(finding.hint or "")]
    return f"| {' | '.join(cells)} |"


def _is_plain(url: str | None) -> bool:
    """Whether an address can stand in a link: a report may come from anywhere."""
    return url is not None and url.startswith("https://") and not set(url) & set("()<> \t\n|\\`\"'")


def _where(finding: Finding) -> str:
    place = finding.path or finding.artifact or "release"
    return escaped(f"{place}:{finding.line}" if finding.line else place)


def _section(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    more = [f"- … and {len(lines) - OPEN_ROWS} more"] if len(lines) > OPEN_ROWS else []
    return _folded(title, "\n".join([*lines[:OPEN_ROWS], *more]))


def _folded(title: str, body: str) -> list[str]:
    return [f"<details><summary>{title}</summary>", body, "</details>"]
