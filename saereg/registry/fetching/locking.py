"""The lock file: which bytes of which releases a project reads."""

import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import PublishError, UsageError
from saereg.registry import hub
from saereg.registry.fetching.choosing import Choice, files_of
from saereg.registry.fetching.opening import DEFAULT_BRANCH, RemoteRelease
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.digest import sha256_text
from saereg.registry.remote import commit_of
from saereg.schemas.lock import LOCK_FILE, Lock, LockedFile, LockedRelease


@dataclass(frozen=True)
class Moved:
    """A revision that is no longer what was locked.

    Attributes:
        locked: what the lock says.
        now: the commit that it is now, or None when there is no such revision any more.
    """

    locked: LockedRelease
    now: str | None

    @property
    def line(self) -> str:
        """What happened, in one line."""
        name = hub.name_of(self.locked.repo, self.locked.requested)
        if self.now is None:
            return f"{name}: locked at {self.locked.commit}, and there is no such revision any more"
        return f"{name}: locked at {self.locked.commit}, now {self.now}"


def read_lock(path: Path) -> Lock | None:
    """Return a lock file; None when there is none.

    Raises:
        DocumentError: when it does not parse or fit.
        UsageError: when it cannot be read.
    """
    try:
        return Lock.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock file, whole or not at all; the same lock gives the same bytes.

    Raises:
        OSError: when it cannot be written.
    """
    write_text_atomically(path, lock.text())


def entry_of(lock: Lock | None, repo: str) -> LockedRelease | None:
    """Return what a lock says of a repository, or None."""
    return next((entry for entry in lock.releases if entry.repo == repo), None) if lock else None


def lock_command(source: Path) -> str:
    """Return how a lock file is written: the words before the target."""
    return "saereg lock" if source == Path(LOCK_FILE) else f"saereg lock --lock {shlex.quote(str(source))}"


def locked(remote: RemoteRelease, artifacts: Collection[str]) -> LockedRelease:
    """Return the entry of some artifacts of a release, after a look at the tree: what it shows to be other is no lock.

    Raises:
        PublishError: when the commit holds half of a release, or another file than the index says.
    """
    remote.require_whole()
    files = sorted(files_of(remote, artifacts), key=lambda file: file.path)
    for file in files:
        entry = remote.files.get(file.path)
        listed = remote.place.listed_sha256(file.path) if entry else None
        if entry is None or entry.size != file.size or listed not in (None, file.sha256):
            problem = f"{file.path} is not there as the index says, so nothing is locked"
            raise PublishError(f"{remote.reference}: {problem}; saereg verify {remote.reference} says more")
    return LockedRelease(
        repo=remote.repo,
        requested=remote.requested,
        commit=remote.commit,
        release=remote.title,
        manifest_sha256=sha256_text(remote.manifest_text),
        index_sha256=sha256_text(remote.index_text),
        artifacts=tuple(sorted(artifacts)),
        files=tuple(LockedFile(path=file.path, size=file.size, sha256=file.sha256) for file in files),
    )


def relocked(remote: RemoteRelease, choice: Choice, before: LockedRelease | None, *, update: bool) -> LockedRelease:
    """Return the entry of a release, together with what is locked of it already.

    Args:
        remote: the release as it is now.
        choice: which artifacts; all, or with an entry those of the entry, when it names none.
        before: its entry, or None.
        update: whether the entry may move to another commit, and lose artifacts.

    Raises:
        UsageError: when the entry is at another commit and may not move.
        UnknownNameError: when an id or a field does not exist.
        PublishError: see `locked`.
    """
    if before is None:
        return locked(remote, choice.of(remote.release))
    if before.commit != remote.commit and not update:
        held = f"{hub.name_of(before.repo, before.requested)} is locked at {before.commit}"
        asked = hub.name_of(remote.repo, remote.requested)
        raise UsageError(f"{held}, and {asked} is {remote.commit}; --update moves the lock there")
    known = {artifact.id for artifact in remote.manifest.artifacts}
    if not update:
        chosen = set(choice.of(remote.release)) | set(before.artifacts) if choice else known
        return locked(remote, chosen).model_copy(update={"requested": before.requested})
    if choice:
        return locked(remote, choice.of(remote.release))
    if gone := sorted(set(before.artifacts) - known):
        problem = f"{remote.title} no longer has {', '.join(gone)}, which is locked"
        raise UsageError(f"{problem}; name the artifacts that are wanted: saereg lock --update {remote.reference} ID …")
    return locked(remote, before.artifacts)


def merged(lock: Lock | None, entries: Collection[LockedRelease]) -> Lock:
    """Return a lock with some entries in the place of those of the same repositories."""
    found = {entry.repo: entry for entry in (*(lock.releases if lock else ()), *entries)}
    return Lock(releases=tuple(found[repo] for repo in sorted(found)))


def revision_of(requested: str | None, entry: LockedRelease | None, source: Path) -> str | None:
    """Return the revision to open: the locked commit, where the repository is locked.

    Args:
        requested: revision that the user names, or None.
        entry: what the lock says of the repository, or None.
        source: the lock file, for the error.

    Raises:
        UsageError: when another revision than the locked one is asked for.
    """
    if entry is None:
        return requested
    same = {
        entry.commit,
        entry.requested,
        *({None, DEFAULT_BRANCH} if entry.requested in (None, DEFAULT_BRANCH) else ()),
    }
    if requested is None or requested in same:
        return entry.commit
    held = f"{hub.name_of(entry.repo, entry.requested)} at {entry.commit}"
    asked = hub.name_of(entry.repo, requested)
    raise UsageError(
        f"{source} locks {held}, and {asked} is asked for; --no-lock ignores the lock, "
        f"{lock_command(source)} --update {asked} moves it"
    )


def moved(entry: LockedRelease) -> Moved | None:
    """Ask what the revision of an entry is now; None when it is what was locked.

    Raises:
        PublishError: when the repository or network is not there.
    """
    try:
        now = commit_of(entry.repo, entry.requested)
    except PublishError as error:
        if type(error.__cause__).__name__ != "RevisionNotFoundError":
            raise
        now = None
    return None if now == entry.commit else Moved(entry, now)
