"""A report as SARIF 2.1.0, for code scanning.

Every rule is listed, found or not: so code scanning closes an alert whose rule was looked at and found nothing.
"""

import re
import zlib
from urllib.parse import quote

from saereg import __version__
from saereg.cli.render.context import Context, gravest_first
from saereg.cli.render.text import shorten, visible
from saereg.registry.release import MANIFEST_FILE
from saereg.registry.validators.rules import FAMILIES
from saereg.registry.validators.rules.text import Rule
from saereg.schemas.document import canonical
from saereg.schemas.report import Finding, Report

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
HOME = "https://github.com/saereg/saereg"
HUB = "https://huggingface.co"

MOST_RESULTS = 25_000
"""Results that GitHub takes in one run; it drops the whole file when there are more."""

LARGEST = 10_000_000
"""Bytes of a file that GitHub takes, compressed."""

LONGEST = 1000
"""Characters of a description that GitHub shows."""

BASE = "SRCROOT"

Json = dict[str, object]

_LINK = re.compile(r"\[(?=[^\]]*\]\()")


def as_sarif(report: Report, context: Context) -> str:
    """Return the report as one SARIF run; paths are relative to the repository that is checked out.

    Beyond what GitHub takes the gravest findings are kept, and a notification of the run says how many there are.
    """
    most = MOST_RESULTS
    text = _text(report, context, most)
    while len(text) > LARGEST and len(zlib.compress(text.encode("utf-8"))) > LARGEST and most > 1:
        most = min(most, len(report.findings)) // 2
        text = _text(report, context, most)
    return text


def _text(report: Report, context: Context, most: int) -> str:
    findings = list(report.findings)
    kept = findings if len(findings) <= most else gravest_first(findings)[:most]
    numbers = {code: number for number, code in enumerate(sorted(context.rules))}
    invocation: Json = {"executionSuccessful": True}
    if len(kept) < len(findings):
        said = f"{len(findings)} findings, of which the {len(kept)} gravest are listed: code scanning takes no more"
        invocation["toolExecutionNotifications"] = [{"level": "warning", "message": {"text": said}}]
    run: Json = {
        "tool": {"driver": _driver(context)},
        "automationDetails": {"id": f"saereg/{_uri(context.prefix)}"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {BASE: {"description": {"text": "the root of the repository that holds the release"}}},
        "invocations": [invocation],
        "results": [_result(finding, context, numbers) for finding in kept],
        "properties": {"release": report.release, "level": report.level, **_graded(report)},
    }
    if context.repository and report.revision:
        place = {"repositoryUri": f"{HUB}/{_uri(context.repository)}", "revisionId": report.revision}
        run["versionControlProvenance"] = [{**place, "mappedTo": {"uriBaseId": BASE}}]
    return canonical({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _driver(context: Context) -> Json:
    rules = [_rule(context.rules[code]) for code in sorted(context.rules)]
    return {"name": "saereg", "version": __version__, "informationUri": HOME, "rules": rules}


def _rule(rule: Rule) -> Json:
    example = "\n\n".join(
        f"**{label}**: `{e.file}`\n\n```\n{e.text}\n```"
        for label, e in (("Bad", rule.bad), ("Good", rule.good))
        if e.text
    )
    prose = "\n\n".join(text for text in (rule.what, rule.why and f"Why: {rule.why}", f"Fix: {rule.fix}") if text)
    return {
        "id": rule.code,
        "name": "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", rule.title)),
        "shortDescription": {"text": _sentence(shorten(rule.title, LONGEST))},
        "fullDescription": {"text": shorten(rule.what or _sentence(rule.title), LONGEST)},
        "help": {"text": prose, "markdown": f"{prose}\n\n{example}".strip()},
        **({"helpUri": rule.url} if rule.url else {}),
        "defaultConfiguration": {"level": rule.severity},
        "properties": {"tags": [FAMILIES.get(rule.code[:3], "third party"), f"level {rule.level}"]},
    }


def _result(finding: Finding, context: Context, numbers: dict[str, int]) -> Json:
    result: Json = {
        "ruleId": finding.code,
        "level": finding.severity,
        "message": {"text": _message(finding)},
        "locations": [_location(finding, context)],
        "properties": _known(
            artifact=finding.artifact,
            pointer=finding.pointer,
            expected=finding.expected,
            found=finding.found,
            fixable=finding.fixable,
        ),
    }
    if finding.code in numbers:
        result["ruleIndex"] = numbers[finding.code]
    if finding.fingerprint:
        result["partialFingerprints"] = {"saereg/v1": finding.fingerprint}
    if finding.ignored:
        result["suppressions"] = [{"kind": "external", "justification": finding.ignored}]
    return result


def _location(finding: Finding, context: Context) -> Json:
    """Return where a finding is; what concerns no file is shown at the manifest, for a result needs a place."""
    path = context.path(finding) or f"{context.prefix}{MANIFEST_FILE}"
    region = _known(startLine=finding.line or 1, startColumn=finding.column if finding.line else None)
    location: Json = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(path), "uriBaseId": BASE}, "region": region}
    }
    if finding.artifact:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.artifact, "kind": "module"}]
    return location


def _message(finding: Finding) -> str:
    """Return what is wrong and what to do; brackets that would make a link are no link."""
    message = visible(finding.message)
    fix = f" Fix: {visible(finding.hint)}" if finding.hint else ""
    return _LINK.sub(r"\\[", _ended(message) + fix)


def _sentence(text: str) -> str:
    return _ended(text[:1].upper() + text[1:])


def _ended(text: str) -> str:
    return text + ("" if text.endswith((".", "?", "!")) else ".")


def _graded(report: Report) -> Json:
    return _known(profile=report.profile, policy=report.policy)


def _known(**values: object) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _uri(path: str) -> str:
    return quote(path, safe="/", errors="backslashreplace")
