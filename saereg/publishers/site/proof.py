"""What the evidence says, in one word for a column and in counts for the head of the page."""

from collections import Counter
from typing import Literal, get_args

from saereg.registry.evidence.golden_file import MAX_REL_ERROR
from saereg.registry.release import Release, ReleaseArtifact
from saereg.schemas.index import IndexArtifact

VerdictWord = Literal["verified", "differs", "not verifiable", "none stated", "not built"]
GoldenWord = Literal["replays", "differs", "not replayed", "none"]


def verdict_word(artifact: ReleaseArtifact) -> VerdictWord:
    """Return what is true of all claims of an artifact together: the worst verdict stands for it."""
    if not artifact.claim.claims:
        return "none stated"
    if artifact.evidence is None:
        return "not built"
    verdicts = {verdict.verdict for verdict in artifact.evidence.verdicts}
    if verdicts & {"differs", "matches_another"}:
        return "differs"
    return "verified" if verdicts == {"verified"} else "not verifiable"


def golden_word(evidence: IndexArtifact | None) -> GoldenWord:
    """Return whether the golden vectors of an artifact replay, by the tolerance of validation at level weights."""
    if evidence is None or evidence.golden is None:
        return "none"
    most = MAX_REL_ERROR[evidence.dtype]
    replays = evidence.golden.replayed
    if not replays:
        return "not replayed"
    return "replays" if all(r.active_sets_equal and r.max_rel_error <= most for r in replays) else "differs"


def proof_counts(release: Release) -> dict[str, dict[str, int]]:
    """Return how many claims have which verdict, and how many artifacts replay."""
    index = release.index
    verdicts: Counter[str] = Counter()
    for entry in index.artifacts if index else ():
        verdicts.update(verdict.verdict for verdict in entry.verdicts)
    claims = sum(len(artifact.claim.claims) for artifact in release)
    golden = Counter(golden_word(artifact.evidence) for artifact in release)
    words = ("verified", "differs", "matches_another", "not_verifiable")
    return {
        "claims": {"stated": claims, **{word: verdicts[word] for word in words}},
        "golden": {word: golden[word] for word in get_args(GoldenWord)},
    }
