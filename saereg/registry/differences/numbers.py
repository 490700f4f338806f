"""Measured numbers, claims and verdicts of one artifact before and now."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from saereg.registry.claims.fits import setting
from saereg.registry.differences.pairing import paired
from saereg.registry.differences.rules import change
from saereg.registry.differences.values import leaf_changes, leaves, plain
from saereg.schemas.difference import Change, ChangeKind, Value
from saereg.schemas.index import IndexArtifact
from saereg.schemas.metrics import Claim, Measurement, Verdict

RANKS = {"verified": 0, "not_verifiable": 1, "matches_another": 2, "differs": 3}
"""Verdict → how bad it is; none at all stands with `not_verifiable`."""

_HOW = ("reason", "rows", "tokens", "dtype", "accumulation", "tolerance", "minimum", "maximum", "histogram", "excluded")
"""Fields of a measurement that say how it was made, and what else was seen; its software is told of the whole index."""

_how = attrgetter(*_HOW)


@dataclass(frozen=True)
class Tolerances:
    """How far a number may move and count as the same.

    Attributes:
        given: metric → largest absolute difference; the others have the larger of the tolerances of both measurements.
    """

    given: Mapping[str, float] = field(default_factory=dict)

    def of(self, old: Measurement, new: Measurement) -> float:
        """Return the largest absolute difference that counts as none."""
        return self.given.get(new.metric, max(old.tolerance, new.tolerance))


def _setting(m: Measurement) -> tuple[Hashable, ...]:
    return (m.metric, m.units, m.batch_rows, m.ablation)


def _same(m: Measurement) -> Hashable:
    return (*_setting(m), m.evaluation, m.data_sha256)


def _same_rows(m: Measurement) -> Hashable:
    return (*_setting(m), m.data_sha256)


def _same_evaluation(m: Measurement) -> Hashable:
    return (*_setting(m), m.evaluation)


def metric_changes(old: Sequence[Measurement], new: Sequence[Measurement], tolerances: Tolerances) -> Iterator[Change]:
    """Yield what happened to measured numbers: only those on the same rows can drift."""
    if old == new:
        return
    if [_same(m) for m in old] == [_same(m) for m in new]:
        for a, b in zip(old, new, strict=True):
            yield from _compared(a, b, tolerances.of(a, b))
        return
    keys = (("same", _same), ("rows", _same_rows), ("evaluation", _same_evaluation))
    found = paired(old, new, [(name, key, key) for name, key in keys])
    for a, b, by in found.pairs:
        if by == "evaluation":
            yield change("metric_other_rows", _where(b), a.value, b.value, _rows(a, b))
        else:
            yield from _compared(a, b, tolerances.of(a, b))
    for gone in found.removed:
        yield change("metric_removed", _where(gone), gone.value, None, gone.reason)
    for come in found.added:
        yield change("metric_added", _where(come), None, come.value, come.reason)


def _compared(a: Measurement, b: Measurement, tolerance: float) -> Iterator[Change]:
    """Yield how a number moved, and if it did not, what else is said of it."""
    if a.value != b.value or a.per_source != b.per_source:
        kind: ChangeKind = "metric_drift" if _drifted(a, b, tolerance) else "metric_repeated"
        yield change(kind, _where(b), _number(a), _number(b), _note(a, b, tolerance))
    if a.evaluation != b.evaluation:
        yield change("metric_repeated", f"{_where(b)}: evaluation", a.evaluation, b.evaluation)
    told = {"reason"} if (a.value is None) != (b.value is None) else set()
    for name in _HOW if _how(a) != _how(b) else ():
        if name not in told and getattr(a, name) != getattr(b, name):
            said = leaves({name: plain(a).get(name)}), leaves({name: plain(b).get(name)})
            yield from leaf_changes(*said, lambda _: "metric_repeated", f"{_where(b)}: ")


def _distance(x: float | None, y: float | None) -> float | None:
    return None if x is None or y is None else abs(y - x)


def _drifted(a: Measurement, b: Measurement, tolerance: float) -> bool:
    """Whether a number, or that of one source, moved by more than the tolerance, or is defined on one side only."""
    if len(a.per_source) != len(b.per_source):
        return True
    pairs = [(a.value, b.value), *zip(a.per_source, b.per_source, strict=True)]
    return any((step := _distance(x, y)) is None or step > tolerance for x, y in pairs if x != y)


def _number(m: Measurement) -> Value:
    if not m.per_source:
        return m.value
    whole: dict[str, Value] = {} if m.value is None else {"value": m.value}
    return whole | {"per_source": list(m.per_source)}


def _where(m: Measurement) -> str:
    return f"{setting(m)} on {m.evaluation}"


def _note(a: Measurement, b: Measurement, tolerance: float) -> str:
    distance = _distance(a.value, b.value)
    if distance is None:
        reason = a.reason or b.reason
        return "defined on one side only" + (f": {reason}" if reason else "")
    computed = f"; computed in {b.dtype} instead of {a.dtype}" if a.dtype != b.dtype else ""
    return f"by {distance:.3g}, tolerance {tolerance:.3g}{computed}"


def _rows(a: Measurement, b: Measurement) -> str:
    return f"{a.rows} rows of sha256 {a.data_sha256[:12]}, now {b.rows} of {b.data_sha256[:12]}"


def claim_changes(
    old: tuple[Sequence[Claim], IndexArtifact | None], new: tuple[Sequence[Claim], IndexArtifact | None]
) -> Iterator[Change]:
    """Yield what happened to stated numbers, and to what the measured ones say of them.

    Args:
        old: claims before, and the evidence with the verdicts on them.
        new: claims now, and the evidence.
    """
    before, now = _judged(*old), _judged(*new)
    if before == now:
        return
    keys = (("all", lambda j: j[0]), ("setting", lambda j: _of(j[0])), ("metric", lambda j: j[0].metric))
    found = paired(before, now, [(name, key, key) for name, key in keys])
    for (a, was), (b, is_), _ in found.pairs:
        where = _claimed(b)
        yield from leaf_changes(plain(a), plain(b), lambda _: "claim_changed", f"{where}: ")
        if new[1] and old[1] and _gist(was) != _gist(is_):
            yield change(_verdict_kind(was, is_), where, _gist(was), _gist(is_), is_.why if is_ else None)
    for gone, _ in found.removed:
        yield change("claim_removed", _claimed(gone), gone.value, None)
    for come, verdict in found.added:
        note = f"{verdict.verdict}: {verdict.why}" if verdict and verdict.verdict != "verified" else None
        yield change("claim_added", _claimed(come), None, come.value, note)


_Judged = tuple[Claim, Verdict | None]


def _judged(claims: Sequence[Claim], evidence: IndexArtifact | None) -> list[_Judged]:
    verdicts = {verdict.claim: verdict for verdict in evidence.verdicts} if evidence else {}
    return [(claim, verdicts.get(position)) for position, claim in enumerate(claims)]


def _of(claim: Claim) -> Hashable:
    return (claim.metric, claim.evaluation, claim.kind, claim.units, claim.batch_rows)


def _claimed(claim: Claim) -> str:
    return f"{setting(claim)} on {claim.evaluation}" if claim.evaluation else setting(claim)


def _gist(verdict: Verdict | None) -> str | None:
    """Return what a verdict comes to; the numbers in it are compared as measured ones."""
    if verdict is None:
        return None
    return f"{verdict.verdict}: {verdict.matches}" if verdict.matches else verdict.verdict


def _verdict_kind(was: Verdict | None, is_: Verdict | None) -> ChangeKind:
    before, now = (RANKS[v.verdict] if v else RANKS["not_verifiable"] for v in (was, is_))
    if before == now or (None in (was, is_) and "verified" in (_gist(was), _gist(is_))):
        return "verdict_changed"  # an index of an earlier version holds none: nothing became better or worse
    return "verdict_worse" if now > before else "verdict_better"
