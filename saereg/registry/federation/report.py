"""The report of a registry, in the shape of every other report: all formats and exit codes are those of `validate`."""

from collections import Counter
from collections.abc import Iterable

from saereg.registry.federation.directory import Directory
from saereg.registry.federation.lint import CHECKS, findings
from saereg.registry.validators.grading import grading_of
from saereg.registry.validators.rules import RULES
from saereg.schemas.report import Finding, Report, Skipped, Summary
from saereg.schemas.settings import Settings

NOT_ASKED = "the Hub was not asked; add --remote"
"""Why SR702 is not looked at."""


def _own(settings: Settings) -> Settings:
    """Return settings without what is meant for the checks of plugins: those look at releases alone."""
    if not settings.plugins:
        return settings
    ignore = tuple(one for one in settings.ignore if any(code.startswith("SR") for code in one.rules))
    severity = {code: level for code, level in settings.severity.items() if code.startswith("SR")}
    return settings.model_copy(update={"ignore": ignore, "severity": severity})


def lint(directory: Directory, settings: Settings | None = None, remote: Iterable[Finding] | None = None) -> Report:
    """Return the report of a registry.

    Args:
        directory: the registry.
        settings: which rules are looked at, and how they are graded.
        remote: what the Hub says of it (`remote.vanished`); None: it was not asked.

    Raises:
        UsageError: when the settings name a rule that does not exist.
    """
    grading = grading_of(_own(settings or Settings()), RULES)
    found = list(findings(directory))
    found += remote or ()
    ordered = sorted(grading.grade(found), key=lambda f: (f.line or 0, f.code, f.artifact or "", f.message))
    counts = Counter(f.severity for f in ordered if not f.ignored)
    asked = remote is not None
    return Report(
        release=directory.called,
        level="layout",
        selected=grading.settings.select,
        findings=tuple(ordered),
        summary=Summary(
            artifacts=sum(len(release.rows) for release in directory.seen),
            errors=counts["error"],
            warnings=counts["warning"],
            notes=counts["note"],
            ignored=sum(f.ignored is not None for f in ordered),
            lowered=grading.lowered(found),
            unused_ignores=grading.unused(ordered, "layout", federation=True),
            checks=len(CHECKS) + asked,
            skipped=() if asked or not grading.selects("SR702") else (Skipped(check="SR702", reason=NOT_ASKED),),
        ),
    )
