"""A report as text, for the terminal."""

from collections import Counter
from dataclasses import dataclass

import click

from saereg.cli.render.context import SHOWN, Context, headline
from saereg.cli.render.source import Source
from saereg.cli.render.text import plural, shorten, visible
from saereg.schemas.report import Finding, Report

COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


@dataclass(frozen=True)
class Folded:
    """Findings of one rule that are only counted."""

    code: str
    count: int


def as_text(report: Report, context: Context) -> str:
    """Return a report for people: findings with their source line, then counts."""
    blocks = [] if context.quiet else _blocks(report, context)
    return "\n".join([*blocks, *_summary(report, context)]) + "\n"


def folded(findings: list[Finding], *, verbose: bool, shown_of_each: int = SHOWN) -> list[Finding | Folded]:
    """Return findings, those of one rule beyond its third artifact (or file) counted where the third one stands.

    Args:
        findings: in the order in which they are shown.
        verbose: whether all are listed.
        shown_of_each: artifacts that are listed of one rule, where not three.
    """
    places: dict[str, dict[str, None]] = {}
    for finding in findings:
        places.setdefault(finding.code, {}).setdefault(_place(finding))
    # One more block says as much as the line that there is one more.
    shown = {
        code: set(list(of)[:shown_of_each] if len(of) > shown_of_each + 1 and not verbose else of)
        for code, of in places.items()
    }
    listed: list[Finding | Folded] = []
    last: dict[str, int] = {}
    hidden: Counter[str] = Counter()
    for finding in findings:
        if _place(finding) in shown[finding.code]:
            last[finding.code] = len(listed)
            listed.append(finding)
        else:
            hidden[finding.code] += 1
    for at, code in sorted(((last[code], code) for code in hidden), reverse=True):
        listed.insert(at + 1, Folded(code, hidden[code]))
    return listed


def _place(finding: Finding) -> str:
    return finding.artifact or finding.path or ""


def _blocks(report: Report, context: Context) -> list[str]:
    source = Source(report, context)
    wanted = [f for f in report.findings if context.verbose or not f.ignored]
    blocks: list[str] = []
    left = context.most if context.most is not None else len(wanted)
    entries = folded(wanted, verbose=context.verbose, shown_of_each=context.per_code)
    for position, entry in enumerate(entries):
        if isinstance(entry, Folded):
            blocks.append(f"… and {entry.count} more of {entry.code} (--verbose shows all)\n")
        elif left:
            blocks.append(_finding(entry, source))
            left -= 1
        else:
            count = sum(e.count if isinstance(e, Folded) else 1 for e in entries[position:])
            return [*blocks, f"… and {plural(count, 'more finding')} (--max-findings {context.most})\n"]
    return blocks


def _finding(finding: Finding, source: Source) -> str:
    place = [str(part) for part in (finding.path or finding.artifact or "release", finding.line) if part]
    where = ":".join([*place, *([str(finding.column)] if finding.line and finding.column else [])])
    label = click.style(f"{finding.severity} {finding.code}", fg=COLOURS[finding.severity], bold=True)
    lines = [f"{visible(where)}  {label}  {visible(finding.message)}", *_quoted(finding, source)]
    pairs = [(name, v) for name, v in (("expected", finding.expected), ("found", finding.found)) if v]
    if pairs:
        lines.append("   " + "    ".join(f"{name}  {shorten(visible(v), 70)}" for name, v in pairs))
    if finding.ignored:
        lines.append(f"   ignored  {visible(finding.ignored)}")
    elif finding.hint:
        lines.append(f"   fix  {visible(finding.hint)}   (saereg rule {finding.code})")
    return "\n".join(lines) + "\n"


def _quoted(finding: Finding, source: Source) -> list[str]:
    """Return the source line with a caret line under what is meant."""
    quote = source.quote(finding)
    if quote is None:
        return []
    margin = " " * len(str(quote.number))
    marks = " " * quote.start + "^" * quote.width
    return [f"   {quote.number} | {quote.text}", f"   {margin} | {marks}"]


def _summary(report: Report, context: Context) -> list[str]:
    counts = report.summary
    line = visible(headline(report))
    if counts.ignored:
        line += f" ({counts.ignored} ignored: see {visible(context.settings or 'the report')})"
    lines = [line]
    asked = (("profile", report.profile), ("policy", report.policy))
    graded = [f"{name} {visible(value)}" for name, value in asked if value]
    if context.settings:
        lines.append(f"configuration: {', '.join([visible(context.settings), *graded])}")
    elif graded:
        lines.append(f"graded by: {', '.join(graded)}")
    if report.selected:
        lines.append(visible(f"only {', '.join(report.selected)} was looked at"))
    safe, unsafe = (sum(f.fixable == kind and not f.ignored for f in report.findings) for kind in ("safe", "unsafe"))
    if safe or unsafe:
        parts = [f"{safe} with --fix"] * bool(safe) + [f"{unsafe} with --unsafe-fixes"] * bool(unsafe)
        lines.append(f"can be mended: {', '.join(parts)}")
    lines += [f"unused ignore: {visible(entry)}" for entry in counts.unused_ignores]
    reasons: dict[str, list[str]] = {}
    for skipped in counts.skipped:
        of = f"{skipped.check} of {skipped.artifact}" if skipped.artifact else skipped.check
        reasons.setdefault(skipped.reason, []).append(of)
    for reason, checks in reasons.items():
        lines.append(f"not checked: {shorten(visible(', '.join(checks)), 100)}: {visible(reason)}")
    return lines
