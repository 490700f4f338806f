"""Everything that the page of one artifact shows, as JSON."""

from collections.abc import Sequence
from typing import Any

from saereg.publishers.site.columns import LEFT_OUT
from saereg.publishers.site.files import training_curve, without_empty
from saereg.publishers.site.proof import golden_word, verdict_word
from saereg.registry.cards.capture import capture
from saereg.registry.cards.recipes import recipes
from saereg.registry.conditions.fields import METRICS
from saereg.registry.release import ReleaseArtifact
from saereg.registry.withdrawal import told
from saereg.schemas.index import IndexArtifact
from saereg.schemas.manifest import CrosscoderArtifact, sites_of
from saereg.schemas.report import Finding

MOST_FINDINGS = 20
"""Findings on the page of one artifact."""


def detail_of(artifact: ReleaseArtifact, findings: Sequence[Finding], place: str) -> dict[str, Any]:
    """Return what the page of an artifact shows.

    Args:
        artifact: of an open release.
        findings: those of this artifact.
        place: the release, as it stands in code that a reader copies.
    """
    claim, evidence = artifact.claim, artifact.evidence
    mark = artifact.withdrawn
    shown = {
        "id": claim.id,
        "fields": [[name, value] for name, value in artifact.fields.items() if _is_shown(name, value)],
        "withdrawn": told(mark) if mark else None,
        "expected_failure": claim.expected_failure,
        "derived_from": list(claim.derived_from),
        "neuronpedia": claim.neuronpedia_id,
        "words": {"claims": verdict_word(artifact), "golden": golden_word(evidence)},
        "sites": _sites(artifact),
        "steps": list(claim.sources.steps) if isinstance(claim, CrosscoderArtifact) else [],
        "claims": _claims(artifact),
        "training": claim.training.model_dump(mode="json"),
        "curve": training_curve(artifact),
        "recipes": _recipes(artifact, place),
        "findings": [finding_of(finding) for finding in findings[:MOST_FINDINGS]],
        "more_findings": max(0, len(findings) - MOST_FINDINGS),
    }
    if evidence is not None:
        shown |= _evidence(evidence)
    kept: dict[str, Any] = without_empty(shown)
    return kept


def _is_shown(name: str, value: object) -> bool:
    hidden = name in LEFT_OUT - {"weights_sha256"} or name in METRICS
    return not hidden and value is not None and value is not False


def _evidence(evidence: IndexArtifact) -> dict[str, Any]:
    dumped = evidence.model_dump(mode="json", include={"golden", "metrics", "round_trip", "assumptions"})
    semantics = evidence.semantics.model_dump(mode="json", exclude_none=True)
    normalization = semantics.pop("normalization")
    switches = semantics | {f"normalization.{name}": value for name, value in normalization.items()}
    for measurement in dumped["metrics"]:
        for name in ("histogram", "tool", "accumulation", "data_sha256"):
            measurement.pop(name, None)
    return dumped | {
        "semantics": [[name, _word(value)] for name, value in switches.items()],
        "decoder_norm": evidence.decoder_norm.model_dump() if evidence.decoder_norm else None,
        "files": [[file.path, file.size, file.role, file.sha256] for file in evidence.files],
        "tensors": [[name, list(facts.shape), facts.dtype, facts.finite] for name, facts in evidence.tensors.items()],
    }


def _word(value: object) -> object:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def _claims(artifact: ReleaseArtifact) -> list[dict[str, Any]]:
    verdicts = {v.claim: v.model_dump(mode="json") for v in artifact.evidence.verdicts} if artifact.evidence else {}
    return [claim.model_dump(mode="json") | verdicts.get(n, {}) for n, claim in enumerate(artifact.claim.claims)]


def _sites(artifact: ReleaseArtifact) -> list[dict[str, Any]]:
    """Return each site that is read or written, with the code that captures it; those of many layers share one."""
    manifest, found = artifact.release.manifest, []
    for key in dict.fromkeys(sites_of(artifact.claim)):
        site = manifest.sites.get(key)
        if site is None:
            continue
        model = manifest.base_models.get(site.model)
        facts = {**site.model_dump(mode="json", exclude={"model"}), "key": key, "base_model": site.model}
        if model is not None:
            facts |= {"model_id": model.id, "revision": model.revision, "model_step": model.step}
        found.append(facts | {"capture": capture(key, manifest)[1]})
    return found


def _recipes(artifact: ReleaseArtifact, place: str) -> list[dict[str, Any]]:
    found = recipes(artifact.claim, artifact.release.manifest, artifact.evidence, place)
    return [{"library": recipe.library, "code": recipe.code, "note": recipe.note} for recipe in found]


def finding_of(finding: Finding) -> dict[str, Any]:
    """Return what the page shows of a finding."""
    wanted = {"code", "severity", "message", "path", "artifact", "line", "expected", "found", "hint", "url", "ignored"}
    return finding.model_dump(mode="json", include=wanted, exclude_none=True)
