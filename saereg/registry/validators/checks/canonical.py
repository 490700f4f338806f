"""SR431 and SR433: the canonical picks are those of the rule that the manifest declares."""

from collections.abc import Iterator

from saereg.errors import UsageError
from saereg.registry.candidates import candidate
from saereg.registry.canonical import GRAMMAR, Choice, Rule, choices, parse_rule
from saereg.registry.validators.subject import ArtifactSubject, ReleaseSubject
from saereg.schemas.manifest import Manifest
from saereg.schemas.report import Finding

RULE = "/canonical/rule"

NAMED = 5
"""Ids that a message names."""


def canonical_rule(release: ReleaseSubject) -> Iterator[Finding]:
    """SR431 and SR433: the rule for canonical artifacts can be evaluated, and chooses those that are flagged."""
    manifest = release.manifest
    if manifest is None or not release.artifacts:
        return
    flagged = [artifact for artifact in release.artifacts if artifact.claim.canonical]
    if manifest.canonical is None:
        if flagged:
            names = _listed([artifact.claim.id for artifact in flagged])
            message = f"{names} {'are' if len(flagged) > 1 else 'is'} flagged canonical, but the manifest has no rule"
            yield flagged[0].claim_finding("SR433", message, "/canonical", expected=GRAMMAR)
        return
    text = manifest.canonical.rule
    try:
        rule = parse_rule(text)
    except UsageError as problem:
        message = f"the rule {text!r} cannot be evaluated: {problem}"
        yield release.manifest_finding("SR433", message, RULE, expected=GRAMMAR, found=text)
        return
    yield from _evaluated(release, manifest, rule, flagged)


def _evaluated(
    release: ReleaseSubject, manifest: Manifest, rule: Rule, flagged: list[ArtifactSubject]
) -> Iterator[Finding]:
    working = {a.claim.id: a for a in release.artifacts if a.claim.expected_failure is None}
    for artifact in flagged:
        if artifact.claim.id not in working:
            message = f"{artifact.claim.id!r} is flagged canonical, and declared a failure"
            yield artifact.claim_finding("SR431", message, "/canonical", expected="false", found="true")
    found = choices(rule, [candidate(a.claim, a.evidence, manifest, rule.metric) for a in working.values()])
    if found and not any(choice.basis for choice in found):
        message = f"{rule.metric} is neither measured nor claimed of any artifact, so the rule cannot be evaluated"
        yield release.manifest_finding("SR433", message, RULE, found=rule.metric)
        return
    if not flagged:
        names = _listed([choice.best[0] for choice in found if choice.best])
        message = f"no artifact is flagged canonical; the rule chooses {names}"
        yield release.manifest_finding("SR431", message, RULE, expected=names)
        return
    for choice in found:
        yield from _judged(working, rule, choice)


def _judged(artifacts: dict[str, ArtifactSubject], rule: Rule, choice: Choice) -> Iterator[Finding]:
    """Yield a finding for each artifact of a group that is wrongly flagged, or one where none is."""
    if not choice.best or choice.basis is None:
        for name in choice.flagged:
            yield _unknown(artifacts[name], rule)
        return
    best, where = choice.best[0], _where(choice)
    for name in choice.flagged:
        if name not in choice.values:
            yield _unknown(artifacts[name], rule)
        elif name not in choice.best:
            message = (
                f"{where}{name!r} is flagged canonical with {_number(choice, name)}, "
                f"but {best!r} has {rule.words}: {_number(choice, best)} ({choice.basis})"
            )
            yield artifacts[name].claim_finding("SR431", message, "/canonical", expected=best, found=name)
    if not choice.flagged:
        message = f"{where}no artifact is flagged canonical; {best!r} has {rule.words}: {_number(choice, best)}"
        message += f" ({choice.basis})"
        yield artifacts[best].claim_finding("SR431", message, "/canonical", expected="true", found="false")


def _unknown(artifact: ArtifactSubject, rule: Rule) -> Finding:
    message = f"{artifact.claim.id!r} is flagged canonical by a rule on {rule.metric}, which is not known of it"
    return artifact.claim_finding("SR433", message, "/canonical")


def _where(choice: Choice) -> str:
    return ", ".join(f"{name} {value}" for name, value in choice.group.items()) + ": " if choice.group else ""


def _number(choice: Choice, name: str) -> str:
    return f"{choice.values[name]:.6g}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:NAMED]))
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"
