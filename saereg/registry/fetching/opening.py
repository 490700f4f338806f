"""A release on the Hub, opened to be fetched or verified: one commit, its tree, its two documents."""

import contextlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from saereg.errors import DocumentError, NothingToValidateError, PublishError, SaeregError, UsageError
from saereg.registry import hub
from saereg.registry.files.digest import release_digest, sha256_text
from saereg.registry.files.folder import Entry
from saereg.registry.refs import Reference, parse_reference
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE, Release
from saereg.registry.remote import HubPlace, open_repository
from saereg.registry.withdrawal import standing, without_v
from saereg.schemas import jsontext
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from saereg.schemas.withdrawal import Withdrawal

MAX_SIGNATURE_BYTES = 10_000_000
"""Bytes of the largest model.sig that is read: one has some 200 for each file."""

DEFAULT_BRANCH = "main"
"""The branch that is read where none is named; on the Hub it has no other name."""


@dataclass(frozen=True, eq=False)
class RemoteRelease:
    """A release at one commit on the Hub.

    Attributes:
        place: the commit, its tree listed.
        requested: revision that was asked for; None for the default branch.
        manifest_text: the claims, as they are there.
        index_text: the evidence, as it is there.
        manifest: the claims.
        index: the evidence.
    """

    place: HubPlace
    requested: str | None
    manifest_text: str
    index_text: str
    manifest: Manifest
    index: Index

    @property
    def repo(self) -> str:
        """The repository, `org/name`."""
        return self.place.name

    @property
    def commit(self) -> str:
        """The commit."""
        return self.place.revision

    @property
    def reference(self) -> str:
        """The release as a user would name it, by its commit."""
        return hub.name_of(self.repo, self.commit)

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.manifest.release.name} {self.manifest.release.version}"

    @property
    def is_exact(self) -> bool:
        """Whether exactly this version was asked for, by its commit or its tag, and not what a branch is now."""
        return hub.is_commit(self.requested) or without_v(self.requested or "") == self.manifest.release.version

    @cached_property
    def files(self) -> dict[str, Entry]:
        """Path → entry, of the regular files in the tree that may be of a release."""
        return {entry.path: entry for entry in self.place.entries() if entry.kind == "file"}

    @property
    def digest(self) -> str:
        """Digest over manifest and index, as reports and plans have it."""
        return release_digest(self.manifest_text, self.index_text)

    @cached_property
    def release(self) -> Release:
        """It as something that can be queried; its path is no folder of this machine."""
        return Release(Path(self.commit), self.manifest, self.index, self.repo)

    @cached_property
    def newest(self) -> Manifest:
        """The manifest at the head of the default branch, where marks of withdrawal are made; else its own."""
        if self.requested in (None, DEFAULT_BRANCH):
            return self.manifest
        with contextlib.suppress(SaeregError, OSError):
            return _manifest(open_repository(self.repo, None))[1]
        return self.manifest

    def small(self, path: str, limit: int) -> bytes:
        """Return the bytes of a file in the tree.

        Args:
            path: the file.
            limit: bytes that it may have.

        Raises:
            PublishError: when it has more, or the Hub lists it and does not send it.
        """
        if (size := self.files[path].size) > limit:
            raise PublishError(f"{self.reference}: {path} has {size} bytes; at most {limit} are read")
        try:
            return self.place.read(path)
        except OSError as error:
            raise PublishError(f"{self.reference}: {path}: {error.strerror}") from None

    def mark(self, artifact: str | None = None) -> Withdrawal | None:
        """Return the mark of withdrawal that readers of it, or of one of its artifacts, must know; None without one."""
        return standing(self.newest, self.manifest.release.version, artifact)

    def require_whole(self) -> None:
        """Refuse a manifest and an index that do not belong together: half of a release was sent.

        Raises:
            PublishError: when they do not.
        """
        claimed, indexed = ({entry.id for entry in document.artifacts} for document in (self.manifest, self.index))
        if claimed != indexed or self.index.manifest_sha256 != sha256_text(self.manifest_text):
            problem = f"{INDEX_FILE} is of another {MANIFEST_FILE}: this commit holds half of a release"
            raise PublishError(f"{self.reference}: {problem}; saereg verify {self.reference} says more")


def hub_reference(target: str) -> Reference:
    """Parse a reference that must be one on the Hub.

    Raises:
        UsageError: when it is not.
    """
    reference = parse_reference(target)
    if reference.repo is None:
        raise UsageError(f"{target!r} is not on the Hub; write hf://org/repo[@revision]")
    return reference


def open_remote(repo: str, revision: str | None) -> RemoteRelease:
    """Open a release at what a revision is now: resolve it once, list the tree once, read manifest and index.

    Raises:
        UsageError: when the name cannot be that of a repository, or HF_HUB_OFFLINE is set.
        PublishError: when the repository, revision or network is not there.
        NothingToValidateError: when it holds no release, or one without an index.
        DocumentError: when a document does not parse or fit.
    """
    name = hub.name_of(repo, revision)
    if hub.is_offline():
        raise UsageError(f"{name}: HF_HUB_OFFLINE is set, and the Hub must be asked")
    place = open_repository(repo, revision)
    text, manifest = _manifest(place)
    index_text = _text(place, INDEX_FILE)
    return RemoteRelease(
        place, revision, text, index_text, manifest, Index.from_text(index_text, _named(place, INDEX_FILE))
    )


def _manifest(place: HubPlace) -> tuple[str, Manifest]:
    text = _text(place, MANIFEST_FILE)
    return text, Manifest.from_text(text, _named(place, MANIFEST_FILE))


def _text(place: HubPlace, path: str) -> str:
    reference = hub.name_of(place.name, place.revision)
    entry = next((entry for entry in place.entries() if entry.path == path and entry.kind == "file"), None)
    if entry is None:
        missing = "so it is no release" if path == MANIFEST_FILE else "so nothing in it can be checked"
        raise NothingToValidateError(f"{reference} holds no {path}, {missing}")
    if entry.size > jsontext.MAX_BYTES:
        raise DocumentError(
            _named(place, path), "", f"the file has {entry.size} bytes; at most {jsontext.MAX_BYTES} are read"
        )
    try:
        return jsontext.decode(place.read(path))
    except jsontext.JsonError as problem:
        raise DocumentError(_named(place, path), "", problem.problem) from None
    except OSError as error:
        raise PublishError(f"{reference}: {path}: {error.strerror}") from None


def _named(place: HubPlace, path: str) -> str:
    return f"{hub.name_of(place.name, place.revision)}: {path}"
