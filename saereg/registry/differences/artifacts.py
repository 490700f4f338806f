"""One artifact before and now: what it is, where it is used, its files, function, numbers and proofs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from saereg.registry.differences.files import file_changes
from saereg.registry.differences.numbers import Tolerances, claim_changes, metric_changes
from saereg.registry.differences.rules import IDENTITY, IN_WORDS, LABELS, change
from saereg.registry.differences.values import leaf_changes, leaves, plain
from saereg.schemas.difference import Change, ChangeKind, Value
from saereg.schemas.index import Index, IndexArtifact
from saereg.schemas.manifest import Artifact, CrosscoderArtifact, Manifest, TranscoderArtifact

_APART = frozenset({"id", "path", "canonical", "claims", "site", "site_out", "sources.site", "sources.sites"})
"""Fields of a claim that are compared by themselves."""

_MODEL = ("id", "revision", "step", "weights_sha256", "final_norm")
"""What tells one base model from another."""


@dataclass
class Book:
    """One side, so that what many artifacts share is looked up once.

    Attributes:
        manifest: the claims.
        evidence: id → evidence; empty without an index.
        has_index: whether there is one.
        places: key of a site → leaves of the place, as far as they were asked for.
    """

    manifest: Manifest
    evidence: Mapping[str, IndexArtifact]
    has_index: bool
    places: dict[str, dict[str, Value]] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest, index: Index | None) -> "Book":
        """Return one side."""
        evidence = {entry.id: entry for entry in index.artifacts} if index else {}
        return cls(manifest, evidence, index is not None)

    def place(self, key: str) -> dict[str, Value]:
        """Return the place that a site names, with its base model: two keys of equal places are one place."""
        if key not in self.places:
            self.places[key] = self._place(key)
        return self.places[key]

    def _place(self, key: str) -> dict[str, Value]:
        site = self.manifest.sites.get(key)
        if site is None:
            return {"key": key}
        found = {name: value for name, value in plain(site).items() if name not in IN_WORDS}
        model = self.manifest.base_models.get(site.model)
        if model is not None:
            found |= {"model": {name: value for name, value in plain(model).items() if name in _MODEL}}
        return leaves(found)


def artifact_changes(
    old: tuple[Artifact, Book], new: tuple[Artifact, Book], tolerances: Tolerances
) -> tuple[Change, ...]:
    """Return what changed of one artifact, beside its id and folder.

    Args:
        old: its entry in the manifest before, and the side that it stands in.
        new: its entry now, and its side.
        tolerances: how far a number may move.
    """
    (claim_a, book_a), (claim_b, book_b) = old, new
    a, b = book_a.evidence.get(claim_a.id), book_b.evidence.get(claim_b.id)
    changes = [*_claim_changes(claim_a, claim_b), *_site_changes(old, new)]
    if a is not None and b is not None:
        changes += _evidence_changes(a, b, (claim_a.path, claim_b.path), tolerances)
    elif book_a.has_index and book_b.has_index and (a is None) != (b is None):
        changes.append(change("evidence_added" if a is None else "evidence_removed", "index.json"))
    return (*changes, *claim_changes((claim_a.claims, a), (claim_b.claims, b)))


def _claim_changes(a: Artifact, b: Artifact) -> Iterator[Change]:
    if a == b:
        return
    before, now = (
        {path: value for path, value in leaves(_dumped(claim)).items() if path not in _APART} for claim in (a, b)
    )
    yield from leaf_changes(before, now, _kind_of)
    if a.canonical != b.canonical:
        yield change("canonical_set" if b.canonical else "canonical_unset", "canonical", a.canonical, b.canonical)


def _dumped(claim: Artifact) -> dict[str, Value]:
    dumped: dict[str, Value] = claim.model_dump(mode="json", exclude_none=True, exclude={"claims", "canonical"})
    return dumped


def _kind_of(path: str) -> ChangeKind:
    if path in IDENTITY:
        return "identity_changed"
    return "label_changed" if path.split(".")[0] in LABELS else "facts_changed"


def _keys(claim: Artifact) -> dict[str, str]:
    """Return role → key of every site of an artifact."""
    if isinstance(claim, CrosscoderArtifact):
        if claim.sources.site is not None:
            return {"sources.site": claim.sources.site}
        return {f"sources.sites.{position}": key for position, key in enumerate(claim.sources.sites)}
    return {"site": claim.site} | ({"site_out": claim.site_out} if isinstance(claim, TranscoderArtifact) else {})


def _site_changes(old: tuple[Artifact, Book], new: tuple[Artifact, Book]) -> Iterator[Change]:
    """Yield other places, and other names of the same place."""
    (claim_a, book_a), (claim_b, book_b) = old, new
    before, now = _keys(claim_a), _keys(claim_b)
    for role in dict.fromkeys((*before, *now)):
        was, is_ = before.get(role), now.get(role)
        if was is None or is_ is None:
            yield change("site_changed", role, was, is_)
            continue
        a, b = book_a.place(was), book_b.place(is_)
        if a != b:
            yield from leaf_changes(a, b, lambda _: "site_changed", f"{role}.")
        elif was != is_:
            yield change("label_changed", role, was, is_, "the same place under another name")


def _evidence_changes(
    a: IndexArtifact, b: IndexArtifact, folders: tuple[str, str], tolerances: Tolerances
) -> Iterator[Change]:
    if a.files != b.files:
        yield from file_changes(a.files, b.files, *folders)
    if a.tensors != b.tensors:
        yield from leaf_changes(_tensors(a), _tensors(b), lambda _: "tensor_changed")
    if a.dtype != b.dtype:
        yield change("tensor_changed", "dtype", a.dtype, b.dtype)
    if a.semantics != b.semantics:
        switches = leaves(plain(a.semantics)), leaves(plain(b.semantics))
        yield from leaf_changes(*switches, lambda _: "semantics_changed")
    if a.assumptions != b.assumptions:
        yield from _assumption_changes(a, b)
    yield from metric_changes(a.metrics, b.metrics, tolerances)
    yield from _proof_changes(a, b)


def _tensors(entry: IndexArtifact) -> dict[str, Value]:
    return {
        name: f"{facts.dtype} [{', '.join(map(str, facts.shape))}]" + ("" if facts.finite else ", not finite")
        for name, facts in sorted(entry.tensors.items())
    }


def _assumption_changes(a: IndexArtifact, b: IndexArtifact) -> Iterator[Change]:
    before, now = ({x.field: f"{x.value} ({x.because})" for x in entry.assumptions} for entry in (a, b))
    for name in dict.fromkeys((*before, *now)):
        was, is_ = before.get(name), now.get(name)
        if was == is_:
            continue
        kind: ChangeKind = "assumption_changed"
        if was is None or is_ is None:
            kind = "assumption_added" if was is None else "assumption_removed"
        yield change(kind, name, was, is_)


def _proof_changes(a: IndexArtifact, b: IndexArtifact) -> Iterator[Change]:
    """Yield what became of the proofs; errors of a replay that holds move with the machine, and are no change."""
    if a.round_trip != b.round_trip:
        yield from _proof("round trip", _moved(a), _moved(b))
    if a.golden != b.golden:
        yield from _proof("golden vectors", _replayed(a), _replayed(b))


def _proof(name: str, was: tuple[str, bool] | None, is_: tuple[str, bool] | None) -> Iterator[Change]:
    old, new = (text[0] if text else None for text in (was, is_))
    if was is None or is_ is None:
        if was != is_:
            yield change("proof_added" if was is None else "proof_removed", name, old, new)
    elif was[1] != is_[1]:
        yield change("proof_better" if is_[1] else "proof_worse", name, old, new)
    elif old != new:
        yield change("proof_changed", name, old, new)


def _moved(entry: IndexArtifact) -> tuple[str, bool] | None:
    """Return what the round trip came to, and whether all that is no fold moved bit by bit."""
    trip = entry.round_trip
    if trip is None:
        return None
    exact = sum(tensor.bitwise for tensor in trip.tensors.values())
    said = f"{exact} of {len(trip.tensors)} tensors moved bitwise from sha256 {trip.against[:12]}"
    return said, exact == len(trip.tensors)


def _replayed(entry: IndexArtifact) -> tuple[str, bool] | None:
    """Return what the golden vectors came to, and whether every replay has the same active latents."""
    golden = entry.golden
    if golden is None:
        return None
    good = sum(replay.active_sets_equal for replay in golden.replayed)
    said = f"{golden.rows} rows by {golden.made_by}, {good} of {len(golden.replayed)} replays agree"
    return said, good == len(golden.replayed)
