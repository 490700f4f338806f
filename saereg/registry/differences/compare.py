"""Two releases, or two artifacts, compared by their manifests and indexes alone: no weights are read."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from saereg.registry.differences.advice import advice
from saereg.registry.differences.artifacts import Book, artifact_changes
from saereg.registry.differences.definitions import index_changes, release_changes
from saereg.registry.differences.numbers import Tolerances
from saereg.registry.differences.pairing import Pairs, paired
from saereg.registry.differences.rules import change
from saereg.registry.files.digest import sha256_of
from saereg.registry.hub import is_commit
from saereg.registry.release import MANIFEST_FILE, Release, ReleaseArtifact
from saereg.schemas.difference import ArtifactDifference, Change, ChangeKind, Difference, Listed, Side
from saereg.schemas.garbage import collected_later
from saereg.schemas.index import Index
from saereg.schemas.manifest import Artifact, Manifest, identity

Documents = tuple[Manifest, Index | None]
"""Claims and evidence of one side."""

DEFAULT = Tolerances()
"""Every measurement has its own."""


_NAMED = 3
"""Artifacts of a group that are named in a note."""


def difference(old: Release, new: Release, tolerances: Tolerances = DEFAULT, names: Sequence[str] = ()) -> Difference:
    """Return what changed from one release to another.

    Args:
        old: before.
        new: now.
        tolerances: how far a number may move and count as the same.
        names: how the user named the two; default: their folders.
    """
    digests = [sha256_of(release.path / MANIFEST_FILE) for release in (old, new)]
    targets = tuple(names) or (str(old.path), str(new.path))
    sides = [
        _side(release.manifest, release.index, target, digest, _commit(release))
        for release, target, digest in zip((old, new), targets, digests, strict=True)
    ]
    notes = [
        f"{target}: index.json was built of another manifest.json; saereg build brings it up to date"
        for release, target, digest in zip((old, new), targets, digests, strict=True)
        if release.index is not None and release.index.manifest_sha256 != digest
    ]
    return compared((old.manifest, old.index), (new.manifest, new.index), tolerances, (sides[0], sides[1]), notes)


def compared(
    old: Documents,
    new: Documents,
    tolerances: Tolerances = DEFAULT,
    sides: tuple[Side, Side] | None = None,
    notes: Iterable[str] = (),
) -> Difference:
    """Return what changed from one pair of documents to another.

    Args:
        old: claims and evidence before.
        new: claims and evidence now.
        tolerances: how far a number may move and count as the same.
        sides: what is said of the two themselves.
        notes: what else is to say.
    """
    with collected_later():
        return _compared(old, new, tolerances, sides or (_side(*old, "old"), _side(*new, "new")), notes)


def _compared(
    old: Documents, new: Documents, tolerances: Tolerances, sides: tuple[Side, Side], notes: Iterable[str]
) -> Difference:
    books = Book.of(*old), Book.of(*new)
    pairs = _pairs(old[0].artifacts, new[0].artifacts, books)
    release = (*release_changes(old[0], new[0]), *index_changes(old[1], new[1]))
    changed = []
    for a, b, by in pairs.pairs:
        changes = (*_moves(a, b), *artifact_changes((a, books[0]), (b, books[1]), tolerances))
        if changes:
            changed.append(_entry(a, b, by, changes))
    counts = _counts([*release, *(c for entry in changed for c in entry.changes)], pairs)
    before, now = sides
    overwritten = [e.id for e in changed if any(c.kind == "weights_changed" for c in e.changes)]
    return Difference(
        old=before,
        new=now,
        notes=(*notes, *_notes((before, now), pairs)),
        release=release,
        added=tuple(Listed(id=claim.id, path=claim.path) for claim in pairs.added),
        removed=tuple(Listed(id=claim.id, path=claim.path) for claim in pairs.removed),
        changed=tuple(changed),
        unchanged=len(pairs.pairs) - len(changed),
        counts=counts,
        advice=advice(
            before.version,
            now.version,
            counts.keys(),
            overwritten,
            is_complete=before.has_index and now.has_index,
        ),
    )


def artifact_difference(
    old: ReleaseArtifact, new: ReleaseArtifact, tolerances: Tolerances = DEFAULT, names: Sequence[str] = ()
) -> Difference:
    """Return what tells one artifact from another, of the same release or of another one.

    Args:
        old: the first.
        new: the second.
        tolerances: how far a number may move and count as the same.
        names: how the user named the two.
    """
    sides = [
        _side(artifact.release.manifest, artifact.release.index, target, commit=_commit(artifact.release))
        for artifact, target in zip((old, new), tuple(names) or (old.id, new.id), strict=True)
    ]
    books = [Book.of(artifact.release.manifest, artifact.release.index) for artifact in (old, new)]
    changes = artifact_changes((old.claim, books[0]), (new.claim, books[1]), tolerances)
    entries = (_entry(old.claim, new.claim, "hand", changes),) if changes else ()
    return Difference(
        old=sides[0],
        new=sides[1],
        compared="artifacts",
        notes=_lacking(sides),
        changed=entries,
        unchanged=1 - len(entries),
        counts=dict(Counter(c.kind for c in changes)),
    )


def _commit(release: Release) -> str | None:
    """Return the commit that a release on the Hub was read at: the name of its folder in the cache."""
    return release.path.name if release.repo is not None and is_commit(release.path.name) else None


def _side(
    manifest: Manifest, index: Index | None, target: str, digest: str | None = None, commit: str | None = None
) -> Side:
    info = manifest.release
    return Side(
        target=target,
        name=info.name,
        version=info.version,
        commit=commit,
        artifacts=len(manifest.artifacts),
        manifest_sha256=digest,
        has_index=index is not None,
    )


def _pairs(old: Sequence[Artifact], new: Sequence[Artifact], books: tuple[Book, Book]) -> Pairs[Artifact]:
    """Return artifacts of both by id; the rest by weights and identity, by weights, and by identity."""
    by_weights = [lambda claim, book=book: _weights(claim, book) for book in books]
    by_identity = [lambda claim, book=book: _identity(claim, book) for book in books]

    def both(side: int, claim: Artifact) -> Hashable | None:
        weights = by_weights[side](claim)
        return (weights, by_identity[side](claim)) if weights else None

    return paired(
        old,
        new,
        [
            ("id", lambda claim: claim.id, lambda claim: claim.id),
            ("weights and identity", lambda claim: both(0, claim), lambda claim: both(1, claim)),
            ("weights", by_weights[0], by_weights[1]),
            ("identity", by_identity[0], by_identity[1]),
        ],
    )


def _weights(claim: Artifact, book: Book) -> Hashable | None:
    """Return the digests of the weights of an artifact; None where they are not known."""
    entry = book.evidence.get(claim.id)
    return tuple(sorted(file.sha256 for file in entry.files if file.role == "weights")) or None if entry else None


def _identity(claim: Artifact, book: Book) -> Hashable:
    return tuple(identity(claim, book.manifest).items())


def _entry(a: Artifact, b: Artifact, by: str, changes: tuple[Change, ...]) -> ArtifactDifference:
    return ArtifactDifference.model_validate(
        {"id": b.id, "path": b.path, "old_id": a.id, "old_path": a.path, "paired_by": by, "changes": changes}
    )


def _moves(a: Artifact, b: Artifact) -> tuple[Change, ...]:
    found = [change("artifact_renamed", "id", a.id, b.id)] if a.id != b.id else []
    return (*found, change("artifact_moved", "path", a.path, b.path)) if a.path != b.path else tuple(found)


def _counts(changes: Iterable[Change], pairs: Pairs[Artifact]) -> dict[ChangeKind, int]:
    lists: dict[ChangeKind, int] = {"artifact_added": len(pairs.added), "artifact_removed": len(pairs.removed)}
    counted = Counter(c.kind for c in changes)
    return {kind: count for kind, count in (*lists.items(), *counted.items()) if count}


def _notes(sides: tuple[Side, Side], pairs: Pairs[Artifact]) -> tuple[str, ...]:
    unclear = [
        f"{_listed(before)} and {_listed(now)} have equal {by}: which became which cannot be told, so that "
        f"{len(before)} count as removed and {len(now)} as added"
        for by, before, now in pairs.ambiguous
    ]
    return (*_lacking(sides), *unclear)


def _listed(claims: Sequence[Artifact]) -> str:
    return ", ".join(claim.id for claim in claims[:_NAMED]) + (" …" if len(claims) > _NAMED else "")


def _lacking(sides: Sequence[Side]) -> tuple[str, ...]:
    return tuple(
        f"{side.target} has no index.json: files, weights, semantics and measured numbers were not compared"
        for side in sides
        if not side.has_index
    )
