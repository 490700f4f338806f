"""A report as one HTML page that needs nothing but itself."""

from pathlib import Path

from saereg.cli.render.context import Context, gravest_first, headline
from saereg.cli.render.source import Source
from saereg.cli.render.text import visible
from saereg.schemas.report import SEVERITIES, Finding, Report

TEMPLATES = Path(__file__).parent / "templates"


def as_html(report: Report, context: Context) -> str:
    """Return the page: verdict, counts, and every finding, searchable by words and by severity.

    Everything in it is escaped; its own script only hides and shows rows, and the page says so to the browser.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    source = Source(report, context)
    findings = gravest_first(list(report.findings))
    most = len(findings) if context.most is None else context.most
    # Files are read in the order of the report, each once.
    quotes = {id(f): source.quote(f) for f in report.findings}
    counts = report.summary
    page = environment.get_template("report.html.j2").render(
        release=report.release,
        verdict="failed" if any(context.fails(f) for f in findings) else "passed",
        headline=headline(report),
        report=report,
        settings=context.settings,
        counts={"error": counts.errors, "warning": counts.warnings, "note": counts.notes, "ignored": counts.ignored},
        severities=(*SEVERITIES, "ignored"),
        rows=[_row(finding, context) | {"quote": quotes[id(finding)]} for finding in findings[:most]],
        more=max(0, len(findings) - most),
        skipped=_reasons(report),
    )
    return page


def _row(finding: Finding, context: Context) -> dict[str, object]:
    place = [finding.path or finding.artifact or "release", finding.line, finding.column if finding.line else None]
    rule = context.rules.get(finding.code)
    said = (
        ("expected", finding.expected),
        ("found", finding.found),
        ("fix", finding.hint),
        ("ignored", finding.ignored),
    )
    return {
        "kind": "ignored" if finding.ignored else finding.severity,
        "severity": finding.severity,
        "code": finding.code,
        "title": rule.title if rule else "",
        "url": finding.url if finding.url and finding.url.startswith("https://") else None,
        "where": visible(":".join(str(part) for part in place if part)),
        "artifact": visible(finding.artifact or ""),
        "message": visible(finding.message),
        "said": [(name, visible(value)) for name, value in said if value],
    }


def _reasons(report: Report) -> list[tuple[str, int]]:
    reasons: dict[str, int] = {}
    for skipped in report.summary.skipped:
        reasons[visible(skipped.reason)] = reasons.get(visible(skipped.reason), 0) + 1
    return list(reasons.items())
