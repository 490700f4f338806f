"""Marks of withdrawal at the head of a branch on the Hub: documents in one commit. Tags and weights stay."""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from saereg.errors import (
    ConflictError,
    InvalidReleaseError,
    NothingToValidateError,
    PublishError,
    UnknownNameError,
    UsageError,
)
from saereg.publishers.hub.blobs import Bytes
from saereg.publishers.hub.capabilities import KNOWN, ROUTES
from saereg.publishers.hub.client import Client
from saereg.publishers.hub.committing import MARK, Commit, Committer, require_shown
from saereg.publishers.hub.state import RemoteFile, Tree
from saereg.publishers.hub.target import HubTarget
from saereg.publishers.publisher import Tell
from saereg.registry.files.digest import sha256_text
from saereg.registry.files.digest_cache import Digests
from saereg.registry.files.names import ARTIFACT_CARD_FILE, SIGNATURE_FILE
from saereg.registry.refs import parse_reference
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.withdrawal import is_version, require_published, standing, without_v
from saereg.registry.withdrawn_documents import DOCUMENTS, Change, Marked, artifact_cards, marked
from saereg.schemas.index import Index
from saereg.schemas.jsontext import JsonError, decode
from saereg.schemas.manifest import Manifest
from saereg.schemas.plan import Operation

TRIES = 3
"""Times that marks are set anew because somebody else changed the branch meanwhile."""


MOST_CARDS = 500
"""Cards of artifacts that are read and changed with a mark: each is a request, and a whole version may have 10,000."""


@dataclass(frozen=True)
class Head:
    """What a branch holds.

    Attributes:
        commit: its commit.
        tree: every file.
        documents: path → bytes of the manifest, the index and the card.
    """

    commit: str
    tree: Tree
    documents: Mapping[str, bytes]


class HubBranch:
    """A branch whose marks are changed."""

    def __init__(self, target: HubTarget, tell: Tell | None = None) -> None:
        self._target, self._client = target, Client(target, tell)
        self._tags: dict[str, str] | None = None

    def require_published(self, manifest: Manifest, version: str, artifact: str | None = None) -> None:
        """Refuse a version that is neither tagged nor that of the branch, or an artifact that it did not have.

        Args:
            manifest: that of the branch.
            version: the version.
            artifact: id of one of its artifacts, or None.

        Raises:
            UsageError: when the version was never published.
            UnknownNameError: when it had no such artifact.
            PublishError: when the Hub cannot be asked.
        """
        if version == manifest.release.version:
            return  # whose artifacts are looked at with the mark
        tags = self._all_tags()
        require_published(version, manifest.release.version, tags)
        if artifact is None:
            return
        found = self._read(tags[f"v{version}"], (MANIFEST_FILE,))
        then = Manifest.from_text(_text(found.documents[MANIFEST_FILE]), f"{MANIFEST_FILE} of v{version}")
        ids = [one.id for one in then.artifacts]
        if artifact not in ids:
            raise UnknownNameError(f"artifact of {version}", artifact, ids)

    def successor(self, manifest: Manifest, successor: str | None) -> str | None:
        """Return a successor as the manifest has it: what is in this repository is named without its address.

        Raises:
            UsageError: when it is this repository as a whole, or a version that was never published.
            PublishError: when the Hub cannot be asked.
        """
        if successor is None:
            return None
        reference = parse_reference(successor) if successor.startswith("hf://") else None
        if reference is not None and reference.repo == self._target.repo:
            if reference.artifact is not None and reference.revision is None:
                return reference.artifact
            if reference.artifact is None and not is_version(reference.revision or ""):
                raise UsageError(f"--successor {successor} is this repository; name a version of it, such as 1.1.0")
            successor = without_v(reference.revision or "") if reference.artifact is None else successor
        if is_version(successor):
            _require_there(without_v(successor), manifest.release.version, self._all_tags())
        return successor

    def mark(
        self,
        change: Change,
        title: Callable[[Manifest], str],
        *,
        refuse_signed: Callable[[Manifest], str] | None = None,
        dry_run: bool = False,
    ) -> Marked:
        """Set marks, or take them back, in one commit on top of what the branch holds.

        Where somebody else changed the branch meanwhile, the marks are set in what it holds now.

        Args:
            change: sets marks, or takes them back; it may be called again.
            title: gives the title of the commit.
            refuse_signed: gives what is said where there is a signature, which would fit the documents no more;
                None: the mark is set all the same.
            dry_run: whether nothing is sent.

        Raises:
            NothingToValidateError: when there is no release, or one without an index.
            InvalidReleaseError: when it is signed, and that is refused.
            DocumentError: when the manifest or the index does not parse or fit.
            UsageError: when the change is refused, or the documents do not belong together.
            PublishError: when the Hub refuses, does not answer, or does not hold afterwards what was sent.
        """
        self._require_branch()
        for attempt in range(TRIES):
            head = self._head()
            if not dry_run and not attempt:
                self._client.require_write()
            head = self._with_cards(head, change)
            done = marked(head.documents, change, self._target.name, is_signed=SIGNATURE_FILE in head.tree)
            if done.is_signed and refuse_signed is not None:
                raise InvalidReleaseError(f"{self._target.name} is signed{refuse_signed(done.before)}")
            if dry_run or not done.documents:
                return replace(done, commit=None)
            try:
                return replace(done, commit=self._commit(head, done.documents, title(done.before)))
            except ConflictError:
                if attempt == TRIES - 1 or self._is_made(head, done.documents):
                    raise
        raise AssertionError  # the last attempt returned or raised

    def _require_branch(self) -> None:
        branch = self._target.branch
        if branch in self._all_tags():
            version = f" {without_v(branch)}" if is_version(branch) else ""
            raise UsageError(
                f"{branch} is a tag, which never moves; mark it on a branch: hf://{self._target.repo}{version}"
            )

    def _all_tags(self) -> dict[str, str]:
        if self._tags is None:  # of a Hub that may have none
            known = self._client.endpoint.rstrip("/") in KNOWN
            self._tags = self._client.tags() if known or self._client.offers(ROUTES["tags"]) else {}
        return self._tags

    def _head(self) -> Head:
        commit = self._client.head(self._target.branch)
        if commit is None:
            raise PublishError(
                f"{self._target.name}: there is no such repository or branch, or this token may not see it"
            )
        if commit == self._target.branch:
            raise UsageError(f"{self._target.name}: a commit never changes; name a branch")
        return self._read(commit, DOCUMENTS)

    def _read(self, commit: str, paths: tuple[str, ...]) -> Head:
        """Read documents of a commit; of the card there may be none."""
        tree = self._client.tree(commit)
        where = f"{self._target.name} at {commit[:8]}"
        if MANIFEST_FILE not in tree:
            raise NothingToValidateError(f"{where} holds no {MANIFEST_FILE}, so it is no release")
        if INDEX_FILE in paths and INDEX_FILE not in tree:
            raise NothingToValidateError(f"{where} holds no {INDEX_FILE}; run saereg build and publish it first")
        return Head(commit, tree, self._contents(commit, tree, [path for path in paths if path in tree]))

    def _contents(self, commit: str, tree: Tree, paths: Iterable[str]) -> dict[str, bytes]:
        found = {path: self._client.read(path, commit, tree[path].size) for path in paths}
        for path, content in found.items():
            if not _is_it(content, tree[path]):
                where = f"{self._target.name} at {commit[:8]}: {path}"
                raise PublishError(f"{where} did not arrive as the Hub lists it; run the same command again")
        return found

    def _with_cards(self, head: Head, change: Change) -> Head:
        """Read the cards of the artifacts that a change is about, too; of very many the release's own says it alone."""
        index = Index.from_text(_text(head.documents[INDEX_FILE]), INDEX_FILE)
        listed = {path for path in artifact_cards(index) if path in head.tree}
        if not listed:
            return head
        before = Manifest.from_text(_text(head.documents[MANIFEST_FILE]), MANIFEST_FILE)
        after = change(before)
        concerned = [
            f"{claim.path}/{ARTIFACT_CARD_FILE}"
            for claim in after.artifacts
            if any(standing(m, m.release.version, claim.id) for m in (before, after))
        ]
        paths = [path for path in concerned if path in listed]
        if not paths or len(paths) > MOST_CARDS:
            return head
        return replace(head, documents={**head.documents, **self._contents(head.commit, head.tree, paths)})

    def _commit(self, head: Head, documents: Mapping[str, bytes], title: str) -> str:
        """Make the commit, look at what it holds, and return it."""
        with tempfile.TemporaryDirectory(prefix="saereg-") as scratch:
            root, operations = Path(scratch) / "documents", []
            root.mkdir()
            for path, content in documents.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(content)
                digest = hashlib.sha256(content).hexdigest()
                action = "change" if path in head.tree else "add"
                operations.append(
                    Operation.model_validate({"action": action, "path": path, "size": len(content), "sha256": digest})
                )
            content_of = Bytes(self._client, root, Digests(root, Path(scratch) / "digests"), 1)
            known = KNOWN.get(self._client.endpoint.rstrip("/"))
            committer = Committer(self._client, content_of, lock_is_enforced=known is not None and known.lock)
            wanted = Commit(self._target.branch, head.commit, operations, title, _digest(head, documents))
            made = committer.commit(wanted)
            require_shown(self._client, operations, made, content_of)
        return made

    def _is_made(self, head: Head, documents: Mapping[str, bytes]) -> bool:
        """Whether our own commit is in the history all the same, on top of somebody else's."""
        line = f"{MARK}{_digest(head, documents)}"
        return any(line in message for _, message in self._client.history(self._target.branch))


def _require_there(successor: str, own: str, tags: Iterable[str]) -> None:
    """Refuse a successor that readers would look for in vain."""
    if successor != own and f"v{successor}" not in tags:
        never = f"--successor {successor} was never published (there is no tag v{successor})"
        raise UsageError(f"{never}: publish it first, or leave it out and add it later by the same command with it")


def _digest(head: Head, documents: Mapping[str, bytes]) -> str:
    """Return the digest by which the commit is known again."""
    parts = [f"{path} {hashlib.sha256(content).hexdigest()}" for path, content in sorted(documents.items())]
    return sha256_text("\n".join(["saereg marks", head.commit, *parts]))


def _is_it(content: bytes, file: RemoteFile) -> bool:
    if file.sha256 is not None:
        return hashlib.sha256(content).hexdigest() == file.sha256
    blob = f"blob {len(content)}\0".encode() + content
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == file.git_sha1


def _text(raw: bytes) -> str:
    try:
        return decode(raw)
    except JsonError as problem:
        raise PublishError(f"{MANIFEST_FILE}: {problem.problem}") from None
