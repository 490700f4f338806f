"""What a renderer knows beside the report: where the files are, and what the user asked to see."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from saereg.cli.render.text import plural
from saereg.registry.validators.rules import RULES
from saereg.registry.validators.rules.text import Rule, read_rule
from saereg.schemas.report import SEVERITIES, Finding, Report, Severity

SHOWN = 3
"""Artifacts, or files, for which the same rule is shown unless more are asked for."""


def _own_rules() -> dict[str, Rule]:
    return {code: read_rule(rule) for code, rule in RULES.items()}


@dataclass(frozen=True)
class Context:
    """What a renderer knows beside the report.

    Attributes:
        root: the release folder, for source lines; None when it is not at hand.
        repository: repository on the Hub, for a release that was validated there.
        prefix: path of the release inside the repository that is checked out, empty or with a slash at its end.
        rules: code → rule, those of third-party checks included.
        settings: the configuration file that was read, as it is to be called.
        fail_on: least severity that fails the run.
        verbose: whether everything is listed, also what repeats itself and what is ignored.
        quiet: whether the counts alone are shown.
        most: how many findings are shown to people; None for all.
        per_code: artifacts, or files, for which the same rule is shown; the others are counted.
        command: what was asked, for the title of a report.
    """

    root: Path | None = None
    repository: str | None = None
    prefix: str = ""
    rules: Mapping[str, Rule] = field(default_factory=_own_rules)
    settings: str | None = None
    fail_on: Severity = "error"
    verbose: bool = False
    quiet: bool = False
    most: int | None = None
    per_code: int = SHOWN
    command: str = "saereg validate"

    def path(self, finding: Finding) -> str | None:
        """Return the file of a finding, relative to the repository that is checked out."""
        return f"{self.prefix}{finding.path}" if finding.path is not None else None

    def shows_source(self, finding: Finding) -> bool:
        """Whether the line of a finding may be printed; of a rule that is not at hand nobody knows."""
        rule = self.rules.get(finding.code)
        return rule is not None and rule.shows_source

    def fails(self, finding: Finding) -> bool:
        """Whether a finding fails the run."""
        counted = SEVERITIES[: SEVERITIES.index(self.fail_on) + 1]
        return finding.ignored is None and finding.severity in counted


Renderer = Callable[[Report, Context], str]
"""Report → text of one format; the same report and context give the same bytes."""


def prefix_of(root: Path) -> str:
    """Return the path of a release inside its checkout: that of the CI job, or the git repository around it."""
    folder = root.resolve()
    workspace = os.environ.get("GITHUB_WORKSPACE")
    for top in (*((Path(workspace).resolve(),) if workspace else ()), *_repositories(folder)):
        if folder.is_relative_to(top):
            inside = folder.relative_to(top).as_posix()
            return "" if inside == "." else f"{inside}/"
    return ""


def _repositories(folder: Path) -> list[Path]:
    return [parent for parent in (folder, *folder.parents) if (parent / ".git").exists()]


def gravest_first(findings: list[Finding]) -> list[Finding]:
    """Return findings by severity, each severity in its order, and what is ignored at the end."""
    return sorted(findings, key=lambda finding: (finding.ignored is not None, SEVERITIES.index(finding.severity)))


def open_findings(report: Report) -> list[Finding]:
    """Return the findings that are not ignored."""
    return [finding for finding in report.findings if finding.ignored is None]


def counted(report: Report) -> str:
    """Return `1 error, 2 warnings, 0 notes`."""
    counts = report.summary
    return ", ".join((plural(counts.errors, "error"), plural(counts.warnings, "warning"), plural(counts.notes, "note")))


def headline(report: Report) -> str:
    """Return what was validated and what came out, in one line."""
    counts = report.summary
    at = f" at {report.revision[:12]}" if report.revision else ""
    looked = f"{plural(counts.artifacts, 'artifact')}, level {report.level}, {plural(counts.checks, 'check')}"
    return f"{report.release}{at}: {looked}: {counted(report)}"
