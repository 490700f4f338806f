"""`evidence`: what was replayed and compared, with numbers, and what nobody can check."""

from collections import Counter

from saereg.registry.cards.marking import code, counted, joined, short, text
from saereg.registry.cards.parts.metrics import by_reason
from saereg.registry.cards.view import Values, View
from saereg.schemas.index import IndexArtifact

MOST_REASONS = 20
"""Reasons that are named."""


def values(view: View) -> Values | None:
    """Return counts over the artifacts; None where none was looked at."""
    entries = [view.evidence[claim.id] for claim in view.claims if claim.id in view.evidence]
    if not entries:
        return None
    return {
        "count": len(entries),
        "golden": _golden(entries),
        "round_trips": _round_trips(entries),
        "verdicts": _verdicts(entries),
        "tensors": _tensors(entries),
        "dtypes": joined(
            [
                f"{counted(n, 'artifact')} in {code(name)}"
                for name, n in sorted(Counter(e.dtype for e in entries).items())
            ]
        ),
        "unverifiable": [{"reason": text(why).rstrip("."), "count": n} for why, n in by_reason(view)[:MOST_REASONS]],
        "software": joined([f"{text(name)} {text(version)}" for name, version in view.index.generated_by.items()]),
        "manifest_sha256": code(view.index.manifest_sha256[:12]),
    }


def _golden(entries: list[IndexArtifact]) -> Values:
    found = [entry.golden for entry in entries if entry.golden is not None]
    replays = [replay for golden in found for replay in golden.replayed]
    return {
        "count": len(found),
        "rows": sum(golden.rows for golden in found),
        "made_by": [text(name) for name in sorted({golden.made_by for golden in found})][:5],
        "readers": [text(name) for name in sorted({replay.reader for replay in replays})],
        "replays": len(replays),
        "equal": sum(replay.active_sets_equal for replay in replays),
        "worst": short(max((replay.max_rel_error for replay in replays), default=None)),
    }


def _round_trips(entries: list[IndexArtifact]) -> Values:
    trips = [entry.round_trip for entry in entries if entry.round_trip is not None]
    tensors = [tensor for trip in trips for tensor in trip.tensors.values()]
    moved = [tensor for tensor in tensors if not tensor.bitwise]
    return {
        "count": len(trips),
        "tensors": len(tensors),
        "bitwise": len(tensors) - len(moved),
        "folded": len(moved),
        "worst": short(max((tensor.max_abs_diff for tensor in moved), default=None)),
    }


def _verdicts(entries: list[IndexArtifact]) -> Values:
    found = Counter(verdict.verdict for entry in entries for verdict in entry.verdicts)
    return {
        "total": found.total(),
        **{name: found[name] for name in ("verified", "differs", "matches_another", "not_verifiable")},
    }


def _tensors(entries: list[IndexArtifact]) -> Values:
    tensors = [tensor for entry in entries for tensor in entry.tensors.values()]
    return {"count": len(tensors), "finite": sum(tensor.finite for tensor in tensors)}
