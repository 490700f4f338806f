"""How findings are made: of a rule, with its severity and hint, and without any secret in them."""

from collections.abc import Iterator

from saereg import __version__
from saereg.registry.files.leaks import redacted
from saereg.registry.validators.rules import RULES
from saereg.registry.validators.rules.text import RuleText, read_rule
from saereg.schemas import jsontext
from saereg.schemas.document import SCHEMA_VERSION, Problem
from saereg.schemas.report import Finding

ORIGIN = {"tool": "saereg", "version": __version__, "schema": SCHEMA_VERSION}

CODES = {
    "syntax": "SR100",
    "missing": "SR101",
    "value": "SR102",
    "unknown_key": "SR103",
    "unsafe_path": "SR004",
}
"""Kind of document problem → rule."""


Code = str | type[RuleText]
"""The rule of a finding: its code, or for the rules of third parties the class."""


def finding(code: Code, message: str, **where: object) -> Finding:
    """Return a finding of a rule, with the rule's severity; its hint is the beginning of the fix unless one is given.

    Args:
        code: the rule; third-party checks give the class of theirs.
        message: what is wrong, in one sentence.
        **where: any other field of `Finding`; None counts as not given.
    """
    rule = read_rule(RULES[code] if isinstance(code, str) else code)
    given = {key: _shown(key, value) for key, value in where.items() if value is not None}
    values = {"hint": rule.hint, "url": rule.url, **given}
    raw = Finding.model_validate(
        {"code": rule.code, "severity": rule.severity, "message": redacted(message), "origin": ORIGIN, **values}
    )
    return raw.with_fingerprint()


def _shown(key: str, value: object) -> object:
    """Return what a field shows of the release: whatever rule it is that quotes a secret, no report holds it."""
    return redacted(value) if isinstance(value, str) and key in ("path", "expected", "found", "hint") else value


def placed(text: str, pointer: str) -> dict[str, object]:
    """Return line and column of a pointer as fields of a finding; none where the text is not JSON."""
    place = jsontext.place_of(text, pointer)
    return {"line": place[0], "column": place[1]} if place else {}


def document_findings(path: str, problems: list[Problem], artifact: str | None = None) -> Iterator[Finding]:
    """Yield one finding per problem of a document."""
    for problem in problems:
        version = problem.pointer == "/schema_version" and problem.kind == "value"
        sentence = (
            f"schema version {problem.found} is not one that this saereg reads (1.x)" if version else problem.sentence
        )
        yield finding(
            "SR104" if version else CODES[problem.kind],
            sentence,
            path=path,
            artifact=artifact,
            line=problem.line,
            column=problem.column,
            pointer=problem.pointer or None,
            expected=problem.expected,
            found=problem.found,
            hint=problem.hint,
            fixable="unsafe" if problem.renamable else None,
        )
