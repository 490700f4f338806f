"""An artifact as a rule for canonical picks looks at it."""

from saereg.registry.canonical import Candidate, Number
from saereg.registry.claims.judge import tolerance_of
from saereg.registry.flat_fields import fields_of, headline
from saereg.schemas.index import IndexArtifact
from saereg.schemas.manifest import Artifact, Manifest


def candidate(claim: Artifact, evidence: IndexArtifact | None, manifest: Manifest, metric: str) -> Candidate:
    """Return what a rule on one metric needs of an artifact.

    Args:
        claim: its entry in the manifest.
        evidence: its entry in the index, or None.
        manifest: the claims.
        metric: definition of the number that decides.
    """
    metrics = evidence.metrics if evidence else ()
    measured = headline(m for m in metrics if m.metric == metric and m.value is not None).values()
    claimed = [c for c in claim.claims if c.metric == metric]
    fields = fields_of(claim, manifest, {name: m.value for name, m in headline(metrics).items()})
    return Candidate(
        claim.id,
        claim.canonical,
        fields,
        {m.metric: Number(m.value, m.tolerance) for m in measured if m.value is not None},
        {c.metric: Number(c.value, tolerance_of(c) if c.tolerance else 0.0) for c in claimed[:1]},
    )
