"""A report as data of our own: one JSON document, or one line per finding. Both can be rendered again with --load."""

from saereg.cli.render.context import Context
from saereg.schemas.report import Report


def as_json(report: Report, context: Context) -> str:
    """Return the canonical JSON of a report; `saereg schema report` describes it."""
    return report.text()


def as_jsonl(report: Report, context: Context) -> str:
    """Return a report as JSON lines; `saereg schema report-line` describes each of them."""
    return report.lines()
