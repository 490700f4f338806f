"""What a repository holds at one commit, against the index that is in it. No weights are fetched for it."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from saereg.registry.fetching.opening import MAX_SIGNATURE_BYTES, RemoteRelease
from saereg.registry.fetching.sampling import Sample, sampled, tried
from saereg.registry.files.blocks import require_torch
from saereg.registry.files.digest import sha256_text
from saereg.registry.files.digest_cache import Digests
from saereg.registry.files.names import SIGNATURE_FILE
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.validators.findings import finding
from saereg.registry.withdrawal import told
from saereg.schemas.index import IndexFile
from saereg.schemas.report import SEVERITIES, Finding, Report, Skipped, Summary

Progress = Callable[[str, int, int], None]
"""(what, done, total) → None."""

EDITED = (
    "Take the edit into your folder (download README.md, run saereg build, raise the version), or leave it: nothing "
    "else depends on it."
)
"""What can be done about a card that was edited on the site."""


@dataclass(frozen=True)
class Verified:
    """What was found out about a release on the Hub.

    Attributes:
        report: the findings.
        files: files that were compared.
        bytes: what they have.
        listed: how many of them by the digests that the Hub lists.
        known: how many by a local file with the same id in git.
        fetched: how many by their bytes; what is missing, or has another size, is none of these.
        samples: artifacts that were downloaded.
        marks: marks of withdrawal, in words.
        digests: path → sha256 of every file that is there and may be of a release.
    """

    report: Report
    files: int
    bytes: int
    listed: int
    known: int
    fetched: int
    samples: tuple[Sample, ...]
    marks: tuple[str, ...]
    digests: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Sampling:
    """How many artifacts are downloaded, and which.

    Attributes:
        count: how many.
        seed: of the choice.
    """

    count: int = 0
    seed: int = 0


def verify(
    remote: RemoteRelease,
    sampling: Sampling = Sampling(),
    *,
    against: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Verified:
    """Compare every file that the index names with the repository.

    Large files are compared by the digests that the Hub lists; small ones are fetched, over several connections, unless
    a local file has the same id in git.

    Args:
        remote: the release at its commit.
        sampling: which artifacts are downloaded too, one at a time, to a temporary folder; their golden vectors are
            replayed.
        against: a local copy of the release, whose small files need not be fetched.
        progress: told of each step.

    Raises:
        PublishError: when the Hub cannot be asked.
        MissingExtraError: to sample, without the `torch` extra.
        UsageError: when there is no room for a sample.
    """
    if sampling.count:
        require_torch("replaying golden vectors")
    known = _known(remote, against) if against is not None else {}
    for path, sha256 in known.items():
        remote.place.assume(path, sha256)
    compared = tuple(_owned(remote))
    findings = [*_documents(remote)]
    digests = {MANIFEST_FILE: sha256_text(remote.manifest_text), INDEX_FILE: sha256_text(remote.index_text)}
    for step, (file, artifact) in enumerate(compared):
        findings += _compared(remote, file, artifact, digests)
        progress(file.path, step + 1, len(compared))
    findings += _extras(remote, {file.path for file, _ in compared})
    samples = tuple(tried(remote, artifact, progress) for artifact in sampled(remote, sampling.count, sampling.seed))
    findings += [found for sample in samples for found in sample.findings]
    hashed = [file.path for file, _ in compared if file.path in digests]
    listed = {path for path in hashed if remote.place.listed_sha256(path)}
    local = {path for path in hashed if path in known} - listed
    return Verified(
        report=_report(remote, findings, len(compared), samples),
        files=len(compared),
        bytes=sum(file.size for file, _ in compared),
        listed=len(listed),
        known=len(local),
        fetched=len(hashed) - len(listed) - len(local),
        samples=samples,
        marks=_marks(remote),
        digests=digests,
    )


def with_findings(verified: Verified, more: tuple[Finding, ...]) -> Verified:
    """Return the same with more findings, as of a signature that only those above can check."""
    findings = [*verified.report.findings, *more]
    before = verified.report.summary
    summary = _summary(findings, before.artifacts, before.checks + 1, before.skipped)
    report = verified.report.model_copy(update={"findings": _sorted(findings), "summary": summary})
    return Verified(**{**vars(verified), "report": report})


def signature_of(remote: RemoteRelease) -> bytes | None:
    """Return the signature that stands beside the manifest, or None.

    Raises:
        PublishError: when the Hub lists it and does not send it, or it is too large for one.
    """
    return remote.small(SIGNATURE_FILE, MAX_SIGNATURE_BYTES) if SIGNATURE_FILE in remote.files else None


def _known(remote: RemoteRelease, against: Path) -> dict[str, str]:
    """Return path → sha256 of the small files that a local folder has too, by git's id of them."""
    found = {}
    with Digests(against) as digests:
        for path in remote.files:
            if remote.place.listed_sha256(path) is None and (against / path).is_file():
                with contextlib.suppress(OSError):  # then it is fetched
                    sha256, git_sha1 = digests.both(path)
                    if git_sha1 == remote.place.git_sha1(path):
                        found[path] = sha256
    return found


def _owned(remote: RemoteRelease) -> Iterator[tuple[IndexFile, str | None]]:
    """Yield every file that the index names, and the artifact that it belongs to."""
    yield from ((file, None) for file in remote.index.files)
    yield from ((file, artifact.id) for artifact in remote.index.artifacts for file in artifact.files)


def _documents(remote: RemoteRelease) -> Iterator[Finding]:
    """SR012 and SR115: manifest and index belong together."""
    found = sha256_text(remote.manifest_text)
    if found != remote.index.manifest_sha256:
        message = f"{INDEX_FILE} is of another {MANIFEST_FILE} than the one beside it"
        hint = "Only a part of a release was uploaded: publish it again with `saereg publish`."
        expected = remote.index.manifest_sha256
        yield finding("SR012", message, path=INDEX_FILE, expected=expected, found=found, hint=hint)
    claimed, indexed = ({entry.id for entry in document.artifacts} for document in (remote.manifest, remote.index))
    for artifact in sorted(claimed ^ indexed):
        where = "index" if artifact in claimed else "manifest"
        yield finding("SR115", f"{artifact!r} is not in the {where}", path=INDEX_FILE, artifact=artifact)


def _compared(
    remote: RemoteRelease, file: IndexFile, artifact: str | None, digests: dict[str, str]
) -> Iterator[Finding]:
    """SR601 and SR604: a file is there, with the size and the digest of the index."""
    entry, path = remote.files.get(file.path), file.path
    if entry is None:
        yield finding("SR604", f"{path} is in the index and not in the repository", path=path, artifact=artifact)
        return
    grave = {"severity": "warning", "hint": EDITED} if file.role == "card" else {}
    if entry.size != file.size and remote.place.listed_sha256(path) is None:
        message = f"{path} has {entry.size} bytes in the repository, the index says {file.size}"
        sizes = {"expected": str(file.size), "found": str(entry.size)}
        yield finding("SR601", message, path=path, artifact=artifact, **sizes, **grave)
        return
    try:
        digests[path] = remote.place.sha256(path)
    except OSError as error:
        yield finding("SR604", f"{path} cannot be downloaded: {error.strerror}", path=path, artifact=artifact)
        return
    if digests[path] != file.sha256:
        message = f"{path} is another file in the repository than the one that was indexed"
        shown = {"expected": file.sha256, "found": digests[path]}
        yield finding("SR601", message, path=path, artifact=artifact, **shown, **grave)


def _extras(remote: RemoteRelease, indexed: set[str]) -> Iterator[Finding]:
    """SR003: what else is in the repository; people add images and results on the site."""
    for path in sorted(set(remote.files) - indexed - {MANIFEST_FILE, INDEX_FILE, SIGNATURE_FILE}):
        hint = "It is no part of the release: nothing vouches for it."
        yield finding("SR003", f"{path} is not in the index", path=path, severity="note", hint=hint)


def _marks(remote: RemoteRelease) -> tuple[str, ...]:
    """Return what the author takes back, in words: the version, or artifacts of it."""
    if (whole := remote.mark()) is not None:
        return (told(whole),)
    marks = (remote.mark(artifact.id) for artifact in remote.manifest.artifacts)
    return tuple(told(mark) for mark in marks if mark is not None)


def _report(remote: RemoteRelease, findings: list[Finding], files: int, samples: tuple[Sample, ...]) -> Report:
    skipped = tuple(
        Skipped(check="golden vectors", artifact=sample.artifact, reason=sample.unchecked)
        for sample in samples
        if sample.unchecked
    )
    return Report(
        release=remote.title,
        level="layout",
        revision=remote.commit,
        release_digest=remote.digest,
        findings=_sorted(findings),
        summary=_summary(
            findings, len(remote.manifest.artifacts), files + sum(not sample.unchecked for sample in samples), skipped
        ),
    )


def _summary(findings: list[Finding], artifacts: int, checks: int, skipped: tuple[Skipped, ...]) -> Summary:
    errors, warnings, notes = (sum(found.severity == kind for found in findings) for kind in SEVERITIES)
    return Summary(artifacts=artifacts, errors=errors, warnings=warnings, notes=notes, checks=checks, skipped=skipped)


def _sorted(findings: list[Finding]) -> tuple[Finding, ...]:
    unique = {found.model_dump_json(): found for found in findings}.values()
    return tuple(sorted(unique, key=lambda f: (f.path or "", f.code, f.artifact or "", f.message)))
