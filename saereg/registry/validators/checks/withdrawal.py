"""SR435 and SR436: marks of withdrawal contradict nothing and lead somewhere."""

from collections.abc import Iterator

from saereg.errors import did_you_mean
from saereg.registry.validators.subject import ReleaseSubject
from saereg.registry.withdrawal import is_id, mark_of, named, told, yanked_successor
from saereg.schemas.manifest import Manifest
from saereg.schemas.report import Finding
from saereg.schemas.withdrawal import Withdrawal


def withdrawn_picks(release: ReleaseSubject) -> Iterator[Finding]:
    """SR435: no artifact is both withdrawn and the author's pick."""
    manifest = release.manifest
    if manifest is None or not manifest.withdrawn or mark_of(manifest, manifest.release.version) is not None:
        return
    for artifact in release.artifacts:
        mark = mark_of(manifest, manifest.release.version, artifact.claim.id)
        if mark is not None and artifact.claim.canonical:
            message = f"{artifact.claim.id!r} is flagged canonical, and {mark.kind} since {mark.date}"
            yield artifact.claim_finding("SR435", message, "/canonical", expected="false", found="true")


def marks_lead_somewhere(release: ReleaseSubject) -> Iterator[Finding]:
    """SR436: what is withdrawn exists, once, and what to use instead can be used."""
    manifest = release.manifest
    seen: set[tuple[str, str | None]] = set()
    for position, mark in enumerate(manifest.withdrawn if manifest is not None else ()):
        pointer, key = f"/withdrawn/{position}", (mark.version, mark.artifact)
        if key in seen:
            yield release.manifest_finding("SR436", f"{named(mark)} is marked twice", pointer)
        seen.add(key)
        if manifest is not None:
            yield from _of_mark(release, manifest, mark, pointer)


def _of_mark(release: ReleaseSubject, manifest: Manifest, mark: Withdrawal, pointer: str) -> Iterator[Finding]:
    ids = {artifact.id for artifact in manifest.artifacts} if mark.version == manifest.release.version else None
    if ids is not None and mark.artifact is not None and mark.artifact not in ids:
        message = f"{mark.artifact!r} is withdrawn, and no artifact of the manifest"
        yield release.manifest_finding("SR436", message, f"{pointer}/artifact", hint=_hint(mark.artifact, ids))
    if mark.successor is None:
        return
    where = f"{pointer}/successor"
    if mark.successor == mark.artifact:
        yield release.manifest_finding("SR436", f"{mark.artifact!r} is to be used instead of itself", where)
    elif ids is not None and is_id(mark.successor) and mark.successor not in ids:
        message = f"{mark.successor!r} is to be used instead of {named(mark)}, and no artifact of the manifest"
        yield release.manifest_finding("SR436", message, where, hint=_hint(mark.successor, ids))
    elif (worse := yanked_successor(manifest, mark)) is not None:
        message = f"{mark.successor!r} is to be used instead of {named(mark)}, but {told(worse)}"
        yield release.manifest_finding("SR436", message, where)


def _hint(name: str, ids: set[str]) -> str:
    guess = did_you_mean(name, sorted(ids))
    return f"did you mean {guess!r}?" if guess else "run saereg yank again, or saereg yank --undo"
