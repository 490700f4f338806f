"""A few artifacts of a release on the Hub, downloaded and run: the bytes that a reader gets are those that were tested.

A tree only says what the Hub believes to have. What it sends, and what that computes, shows when it is fetched.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from saereg.errors import UsageError
from saereg.registry.fetching.download import Fetcher, LostFileError, Wanted, WrongBytesError
from saereg.registry.fetching.opening import RemoteRelease
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.place import FolderPlace
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.validators.checks.weights import golden_replays
from saereg.registry.validators.findings import finding
from saereg.registry.validators.subject import ReleaseSubject
from saereg.schemas.index import IndexArtifact
from saereg.schemas.report import Finding

CONNECTIONS = 4

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Sample:
    """One artifact that was downloaded.

    Attributes:
        artifact: its id.
        files: files of it that were compared.
        bytes: what they have.
        rows: rows of golden vectors that were replayed; 0 when none were.
        unchecked: why no golden vectors were replayed, or empty.
        findings: what is wrong with it.
    """

    artifact: str
    files: int
    bytes: int
    rows: int
    unchecked: str
    findings: tuple[Finding, ...] = field(repr=False)


def sampled(remote: RemoteRelease, count: int, seed: int) -> tuple[IndexArtifact, ...]:
    """Choose artifacts: of each kind and architecture in turn, those with golden vectors first.

    Args:
        remote: the release.
        count: how many; all when there are fewer.
        seed: the same seed chooses the same.
    """
    claims = {claim.id: claim for claim in remote.manifest.artifacts}
    groups: dict[tuple[str, str], list[IndexArtifact]] = {}
    for artifact in remote.index.artifacts:
        claim = claims.get(artifact.id)
        key = (claim.kind, claim.architecture) if claim else ("", "")
        groups.setdefault(key, []).append(artifact)
    dice = random.Random(seed)
    for key in sorted(groups):
        dice.shuffle(groups[key])
        groups[key].sort(key=lambda artifact: artifact.golden is None)
    queues = [groups[key] for key in sorted(groups)]
    dice.shuffle(queues)
    chosen: list[IndexArtifact] = []
    while len(chosen) < count and any(queues):
        chosen += [queue.pop(0) for queue in queues if queue][: count - len(chosen)]
    return tuple(chosen)


def tried(remote: RemoteRelease, artifact: IndexArtifact, progress: Progress) -> Sample:
    """Download an artifact to a temporary folder, compare its digests and replay its golden vectors.

    Raises:
        PublishError: when the Hub cannot be asked.
        UsageError: when there is no room for it.
    """
    size = sum(file.size for file in artifact.files)
    try:
        with tempfile.TemporaryDirectory(prefix="saereg-verify-") as scratch:
            free = shutil.disk_usage(scratch).free
            if size > free:
                raise UsageError(f"{artifact.id} has {size} bytes, and {free} are free in {scratch}; set TMPDIR")
            rows, unchecked, findings = _tried_in(Path(scratch), remote, artifact, progress)
    except OSError as error:
        raise UsageError(f"{error.filename or tempfile.gettempdir()}: {error.strerror or error}; set TMPDIR") from error
    return Sample(artifact.id, len(artifact.files), size, rows, unchecked, findings)


def _tried_in(
    scratch: Path, remote: RemoteRelease, artifact: IndexArtifact, progress: Progress
) -> tuple[int, str, tuple[Finding, ...]]:
    wanted = {file.sha256: Wanted(file.path, file.size, file.sha256) for file in artifact.files}
    total, done = sum(file.size for file in wanted.values()), 0

    def heard(count: int) -> None:
        nonlocal done
        done += count
        progress(f"{artifact.id}: {done / 1e6:.1f} of {total / 1e6:.1f} MB", done, total)

    if missing := [file for file in wanted.values() if file.path not in remote.files]:
        return 0, f"{missing[0].path} is not in the repository", ()
    fetcher = Fetcher(remote.repo, remote.commit, scratch / "received", heard)
    try:
        fetcher.fetch_all(wanted.values(), CONNECTIONS)
    except WrongBytesError as error:
        message = f"the Hub sends other bytes of {error.path} than the index says"
        shown = {"expected": error.expected, "found": error.found}
        found = finding("SR601", message, path=error.path, artifact=artifact.id, **shown)
        return 0, "its files are not those of the index", (found,)
    except LostFileError as error:
        found = finding("SR604", str(error), path=error.path, artifact=artifact.id)
        return 0, "its files are not all there", (found,)
    release = scratch / "release"
    for file in artifact.files:
        (release / file.path).parent.mkdir(parents=True, exist_ok=True)
        os.link(fetcher.staged(file.sha256), release / file.path)
    return _replayed(release, remote, artifact)


def _replayed(release: Path, remote: RemoteRelease, artifact: IndexArtifact) -> tuple[int, str, tuple[Finding, ...]]:
    if artifact.golden is None:
        return 0, "it has no golden vectors", ()
    write_text_atomically(release / MANIFEST_FILE, remote.manifest_text)
    write_text_atomically(release / INDEX_FILE, remote.index_text)
    subject = ReleaseSubject(FolderPlace(release))
    try:
        one = next((one for one in subject.artifacts if one.claim.id == artifact.id), None)
        if one is None or one.config is None or one.header is None:
            return 0, "its cfg.json or weights cannot be read; saereg validate says why", ()
        return artifact.golden.rows, "", tuple(golden_replays(one))
    finally:
        subject.close()
