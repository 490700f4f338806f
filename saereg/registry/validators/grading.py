"""What becomes of findings under profile, policy and configuration. Nothing disappears: what is ignored says why."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from saereg.errors import UsageError
from saereg.registry.validators.profiles import POLICIES, PROFILES, Profile, graded, ignored, profile_chain
from saereg.registry.validators.rules.text import RuleText
from saereg.schemas.report import LEVELS, Finding, Level, Severity
from saereg.schemas.settings import Ignore, Settings

FEDERATION = "SR7"
"""Family of the rules on registries; no release has findings of them."""


@dataclass(frozen=True)
class Grading:
    """How findings are graded, made once per run.

    Attributes:
        settings: the configuration.
        chain: profile and policy, the most general first.
        rules: code → rule, those of third-party checks included.
    """

    settings: Settings
    chain: tuple[Profile, ...]
    rules: Mapping[str, type[RuleText]]

    @property
    def level(self) -> Level | None:
        """Level that profile and policy ask for where the caller names none; the last one that speaks wins."""
        return next((profile.level for profile in reversed(self.chain) if profile.level), None)

    @property
    def layouts(self) -> tuple[str, ...]:
        """Layouts in which every artifact must be expressible."""
        return tuple(dict.fromkeys(profile.layout for profile in self.chain if profile.layout))

    def selects(self, code: str) -> bool:
        """Whether a rule is looked at."""
        return not self.settings.select or code.startswith(self.settings.select)

    def grade(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield the findings that are looked at, each with its severity, and the reason where it is ignored."""
        for finding in findings:
            if self.selects(finding.code):
                yield self._graded(finding)

    def accepts(self, error: Finding) -> bool:
        """Whether an error is ignored or graded down; one that is only not selected is not."""
        graded = self._graded(error)
        return graded.ignored is not None or graded.severity != "error"

    def lowered(self, findings: Iterable[Finding]) -> int:
        """Return how many errors are graded down, and not ignored."""
        errors = {f.fingerprint: self._graded(f) for f in findings if f.severity == "error" and self.selects(f.code)}
        return sum(graded.severity != "error" and graded.ignored is None for graded in errors.values())

    def unused(self, findings: Iterable[Finding], level: Level, *, federation: bool = False) -> tuple[str, ...]:
        """Return the ignores of the configuration that silenced nothing, where this level looks at all their rules.

        Args:
            findings: graded ones.
            level: depth of the validation.
            federation: whether a registry was looked at and no release: each has rules of its own.
        """
        found = list(findings)
        return tuple(
            _describe(ignore)
            for ignore in self.settings.ignore
            if not any(finding.ignored and _matches(ignore, finding) for finding in found)
            and self._looked_at(ignore, level, federation)
        )

    def _graded(self, finding: Finding) -> Finding:
        if not self._may_change(finding):
            return finding
        severity = self._severity(finding)
        return finding.model_copy(update={"severity": severity, "ignored": self._ignored(finding)})

    def _may_change(self, finding: Finding) -> bool:
        rule = self.rules.get(finding.code)
        return rule is None or rule.silenceable or finding.severity != "error"

    def _severity(self, finding: Finding) -> Severity:
        own = self.settings.severity
        if fitting := [prefix for prefix in own if finding.code.startswith(prefix)]:
            return own[max(fitting, key=len)]
        # A rule that grades one of its own findings lower than itself means that one to be lower.
        return (graded(finding.code, self.chain) if self._is_usual(finding) else None) or finding.severity

    def _is_usual(self, finding: Finding) -> bool:
        rule = self.rules.get(finding.code)
        return rule is None or finding.severity == rule.severity

    def _ignored(self, finding: Finding) -> str | None:
        for ignore in self.settings.ignore:
            if _matches(ignore, finding):
                return ignore.reason
        return ignored(finding.code, self.chain)

    def _looked_at(self, ignore: Ignore, level: Level, federation: bool) -> bool:
        codes = [code for code in self.rules if code.startswith(ignore.rules) and self.selects(code)]
        concerned = [self.rules[code] for code in codes if code.startswith(FEDERATION) is federation]
        # A prefix may be meant for a rule that only a deeper level looks at.
        return bool(concerned) and all(LEVELS.index(rule.level) <= LEVELS.index(level) for rule in concerned)


def grading_of(settings: Settings, rules: Mapping[str, type[RuleText]]) -> Grading:
    """Return the grading of a configuration.

    Raises:
        UsageError: when it names a profile, policy or rule that does not exist, or silences what may not be silenced.
    """
    profile = tuple(profile_chain(settings.profile or "base", PROFILES, "profile"))
    policy = tuple(profile_chain(settings.policy, POLICIES, "policy"))
    named = [("select", prefix) for prefix in settings.select]
    named += [("severity", prefix) for prefix in settings.severity]
    named += [("ignore", prefix) for ignore in settings.ignore for prefix in ignore.rules]
    for place, prefix in named:
        if not any(code.startswith(prefix) for code in rules):
            raise UsageError(f"{place}: no rule begins with {prefix!r}; `saereg rule` lists them all")
    for place, code in named:
        refused = code in rules and not rules[code].silenceable and not rules[code].also
        if place != "select" and refused and not _raises(settings, place, code):
            raise UsageError(f"{place}: {code} may not be ignored or graded down; `saereg rule {code}` says why")
    return Grading(settings, (*profile, *policy), rules)


def _raises(settings: Settings, place: str, code: str) -> bool:
    return place == "severity" and settings.severity[code] == "error"


def _matches(ignore: Ignore, finding: Finding) -> bool:
    if not finding.code.startswith(ignore.rules):
        return False
    return _fits(finding.path, ignore.paths) and _fits(finding.artifact, ignore.artifacts)


def _fits(name: str | None, patterns: tuple[str, ...]) -> bool:
    return not patterns or (name is not None and any(_expression(pattern).fullmatch(name) for pattern in patterns))


_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    """Return a pattern as a regular expression: `*` and `?` stay in their folder, `**` does not."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return re.compile("".join(_WILD.get(part, re.escape(part)) for part in parts), re.DOTALL)


def _describe(ignore: Ignore) -> str:
    where = ", ".join((*ignore.paths, *ignore.artifacts))
    return ", ".join(ignore.rules) + (f" in {where}" if where else "")
