"""Profiles say what kind of release it is, policies what it is validated for. Both only choose and grade rules."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from saereg.errors import UnknownNameError
from saereg.schemas.report import LEVELS, Level, Severity


@dataclass(frozen=True)
class Profile:
    """One profile or policy.

    Attributes:
        name: how it is called.
        about: what it is for, in one sentence.
        extends: the profile that it adds to; what is said here wins.
        layout: layout of `saereg.registry.formats` in which every artifact must be expressible, or None for any.
        off: rules or families that make no sense for it, with the reason that stands beside an ignored finding.
        severity: code or prefix → severity.
        level: level of the validation where the caller names none.
        at_least: lowest level whose report satisfies it, or None.
    """

    name: str
    about: str
    extends: str | None = None
    layout: str | None = None
    off: Mapping[str, str] = field(default_factory=dict)
    severity: Mapping[str, Severity] = field(default_factory=dict)
    level: Level | None = None
    at_least: Level | None = None


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("base", "any release: every rule with its own severity"),
        Profile(
            "saelens",
            "every artifact can be written in SAELens' layout without loss",
            extends="base",
            layout="saelens",
            severity={"SR501": "error", "SR313": "error"},
        ),
        Profile(
            "sparsify",
            "every artifact can be converted to sparsify's layout without loss",
            extends="base",
            layout="sparsify",
        ),
        Profile(
            "dictionary-learning",
            "every artifact can be converted to dictionary_learning's layout without loss",
            extends="base",
            layout="dictionary_learning",
        ),
        Profile(
            "crosscoder-params",
            "crosscoders and SAEs of parameter tensors over pretraining snapshots",
            extends="base",
            off={
                "SR321": "rows of parameter tensors are no tokens",
                "SR504": "parameter tensors come from a model, not from a data set",
            },
            severity={"SR331": "error", "SR432": "error"},
        ),
    )
}
"""Name → profile."""

POLICIES = {
    policy.name: policy
    for policy in (
        Profile("ci-fast", "every commit: documents and headers, no weights", level="header"),
        Profile(
            "hub-public",
            "before a release is made public: pinned, licensed, found and described",
            severity={
                "SR014": "error",
                "SR301": "error",
                "SR423": "error",
                "SR500": "error",
                "SR501": "error",
                "SR502": "error",
                "SR503": "error",
                "SR507": "error",
                "SR508": "error",
            },
            level="weights",
            at_least="weights",
        ),
        Profile(
            "paper",
            "before its numbers are printed: every claim recomputed from the released weights and data",
            extends="hub-public",
            severity={"SR401": "error", "SR415": "error", "SR417": "error", "SR418": "error"},
            level="data",
            at_least="data",
        ),
    )
}
"""Name → policy."""


def level_needed(policy: str | None, least: Level) -> Level:
    """Return the lowest level whose report satisfies a policy, and at least `least`.

    Raises:
        UnknownNameError: when there is no such policy.
    """
    levels = [wanted.at_least for wanted in profile_chain(policy, POLICIES, "policy") if wanted.at_least]
    return max([least, *levels], key=LEVELS.index)


def profile_chain(name: str | None, table: Mapping[str, Profile], kind: str) -> Iterator[Profile]:
    """Yield a profile and those that it extends, the most general first.

    Raises:
        UnknownNameError: when the table has no such name.
    """
    if name is None:
        return
    if name not in table:
        raise UnknownNameError(kind, name, table)
    yield from profile_chain(table[name].extends, table, kind)
    yield table[name]


@dataclass(frozen=True)
class Change:
    """What a profile or policy does with one rule.

    Attributes:
        kind: `profile` or `policy`.
        name: its name.
        severity: severity that it gives, or None.
        reason: why it ignores the rule, or None.
    """

    kind: str
    name: str
    severity: Severity | None
    reason: str | None


def changes_of(code: str) -> tuple[Change, ...]:
    """Return every profile and policy that grades a rule otherwise or ignores it."""
    found = []
    for kind, table in (("profile", PROFILES), ("policy", POLICIES)):
        for name in table:
            chain = tuple(profile_chain(name, table, kind))
            change = Change(kind, name, graded(code, chain), ignored(code, chain))
            found += [change] if change.severity or change.reason else []
    return tuple(found)


def graded(code: str, chain: tuple[Profile, ...]) -> Severity | None:
    """Return the severity that a chain gives a rule: the last profile that speaks decides, in it the longest prefix."""
    for profile in reversed(chain):
        if fitting := [prefix for prefix in profile.severity if code.startswith(prefix)]:
            return profile.severity[max(fitting, key=len)]
    return None


def ignored(code: str, chain: tuple[Profile, ...]) -> str | None:
    """Return why a chain ignores a rule, with the name of the profile that does, or None."""
    for profile in chain:
        for prefix, reason in profile.off.items():
            if code.startswith(prefix):
                return f"{reason} (profile {profile.name})"
    return None
