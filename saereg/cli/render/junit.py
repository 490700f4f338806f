"""A report as JUnit XML, which every CI server lists: one suite per artifact, one case per rule and file."""

from collections.abc import Iterable
from itertools import groupby

from saereg.cli.render.context import Context
from saereg.schemas.report import Finding, Report, Skipped

RELEASE = "release"
"""Suite of what concerns no single artifact."""


def as_junit(report: Report, context: Context) -> str:
    """Return the report as JUnit XML.

    What fails the run (see --fail-on) is a failure; lighter findings are the output of a case that passes; what is
    ignored, or could not be checked, is skipped with its reason. There are no times: same report, same bytes.
    """
    from xml.etree import ElementTree

    suites = ElementTree.Element("testsuites", {"name": _xml(f"saereg {report.release}")})
    cases = [*_cases(report, context), *(_not_run(skipped) for skipped in report.summary.skipped)]
    if not cases:
        cases = [_Case(RELEASE, f"level {report.level}", "passed", "", "")]
    cases.sort(key=lambda case: (case.suite != RELEASE, case.suite, case.name))
    for name, several in groupby(cases, key=lambda case: case.suite):
        listed = list(several)
        suite = ElementTree.SubElement(suites, "testsuite", {"name": _xml(name), **_counts(listed)})
        for case in listed:
            case.add_to(suite, report.release)
    suites.attrib.update({name: count for name, count in _counts(cases).items() if name != "skipped"})
    ElementTree.indent(suites)
    text: str = ElementTree.tostring(suites, encoding="unicode", xml_declaration=False)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


class _Case:
    """One test case: `outcome` is `passed`, `failure` or `skipped`."""

    def __init__(self, suite: str, name: str, outcome: str, message: str, body: str) -> None:
        self.suite, self.name, self.outcome, self.message, self.body = suite, name, outcome, message, body

    def add_to(self, suite, release: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Add the case to its suite, an element of XML."""
        from xml.etree import ElementTree

        attributes = {"classname": _xml(f"{release}/{self.suite}"), "name": _xml(self.name)}
        case = ElementTree.SubElement(suite, "testcase", attributes)
        if self.outcome == "passed":
            if self.body:
                ElementTree.SubElement(case, "system-out").text = _xml(self.body)
            return
        kind = {"type": "error"} if self.outcome == "failure" else {}
        mark = ElementTree.SubElement(case, self.outcome, {"message": _xml(self.message), **kind})
        mark.text = _xml(self.body)


def _cases(report: Report, context: Context) -> Iterable[_Case]:
    def key(finding: Finding) -> tuple[str, str, str, str]:
        ignored = finding.ignored or ""
        return (finding.artifact or RELEASE, finding.code, finding.path or "", ignored)

    for (suite, code, path, ignored), several in groupby(sorted(report.findings, key=key), key=key):
        findings = list(several)
        name = f"{code} {path}".strip() + (" (ignored)" if ignored else "")
        body = "\n".join(_lines(finding, context) for finding in findings)
        failing = [finding for finding in findings if context.fails(finding)]
        if ignored:
            yield _Case(suite, name, "skipped", ignored, body)
        elif failing:
            more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
            yield _Case(suite, name, "failure", f"{failing[0].message}{more}", body)
        else:
            yield _Case(suite, name, "passed", "", body)


def _lines(finding: Finding, context: Context) -> str:
    where = ":".join(str(part) for part in (context.path(finding), finding.line, finding.column) if part)
    lines = [f"{where}  {finding.severity} {finding.code}  {finding.message}".strip()]
    labelled = (("expected", finding.expected), ("found", finding.found), ("fix", finding.hint), ("see", finding.url))
    return "\n".join([*lines, *(f"  {name}: {value}" for name, value in labelled if value)])


def _not_run(skipped: Skipped) -> _Case:
    return _Case(skipped.artifact or RELEASE, f"check {skipped.check}", "skipped", skipped.reason, "")


def _counts(cases: list[_Case]) -> dict[str, str]:
    outcomes = [case.outcome for case in cases]
    counts = {"tests": len(cases), "failures": outcomes.count("failure"), "errors": 0}
    return {name: str(count) for name, count in (counts | {"skipped": outcomes.count("skipped")}).items()}


def _xml(text: str) -> str:
    """Write out what XML 1.0 has no way to hold; line breaks and tabs it can."""
    return "".join(c if _is_legal(ord(c)) else c.encode("unicode_escape").decode("ascii") for c in text)


def _is_legal(point: int) -> bool:
    return point in (0x9, 0xA) or 0x20 <= point <= 0xD7FF or 0xE000 <= point <= 0xFFFD or point >= 0x10000
