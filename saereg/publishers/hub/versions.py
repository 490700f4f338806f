"""A published version is never overwritten, and a tag is never moved."""

import re
import shlex
from dataclasses import dataclass

from saereg.errors import InvalidReleaseError, PublishError, SaeregError, UsageError
from saereg.publishers.hub.client import Client
from saereg.publishers.hub.state import Ids, Tree, is_content, is_same
from saereg.publishers.plan import State
from saereg.publishers.publisher import Wishes
from saereg.registry.files.digest_cache import Digests
from saereg.registry.files.names import ARTIFACT_CARD_FILE, SIGNATURE_FILE
from saereg.registry.release import MANIFEST_FILE
from saereg.registry.semver import order
from saereg.registry.withdrawal import lost_marks, named, only_marks_differ
from saereg.registry.withdrawn_documents import DOCUMENTS
from saereg.schemas import jsontext
from saereg.schemas.manifest import Manifest
from saereg.schemas.withdrawal import Withdrawal

_VERSION_TAG = re.compile(r"^v?\d+\.\d+\.\d+")


@dataclass(frozen=True)
class Remote:
    """What is published.

    Attributes:
        base: head of the branch; None when there is none.
        tree: what it holds.
        tags: tag → commit.
        creates: what is not there yet; of a branch, base and tree are those of the one that it starts from.
    """

    base: str | None
    tree: Tree
    tags: dict[str, str]
    creates: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What may be done.

    Attributes:
        tag: tag that the new commit gets; None: none.
        tagged: commit that has it already.
        skips: why nothing is done; None: go on.
    """

    tag: str | None = None
    tagged: str | None = None
    skips: str | None = None


def tag_of(manifest: Manifest, wishes: Wishes) -> str | None:
    """Return the tag that is wanted: `v` and the version, unless the user wishes another or none.

    Raises:
        UsageError: when it names another version than the manifest.
    """
    own = f"v{manifest.release.version}"
    if wishes.no_tag or wishes.pull_request:
        if wishes.tag is not None:
            with_what = "--no-tag" if wishes.no_tag else "--pr: a tag is made once it is merged"
            raise UsageError(f"--tag {wishes.tag} does not go with {with_what}")
        return None
    tag = wishes.tag or own
    if _VERSION_TAG.match(tag) and tag != own:
        what = f"write {own}" if f"v{tag}" == own else "change one of them"
        raise UsageError(f"--tag {tag}: the manifest says version {manifest.release.version}; {what}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", tag):
        raise UsageError(f"--tag {tag!r} is no name for a tag; write it like {own}")
    return tag


class Versions:
    """Judges whether a release may be published over what is there."""

    def __init__(self, client: Client, wanted: State, digests: Digests, wishes: Wishes) -> None:
        self._client, self._wanted, self._ids, self._wishes = client, wanted, Ids(digests), wishes

    def judge(self, manifest: Manifest, remote: Remote) -> Verdict:
        """Return what may be done.

        Raises:
            InvalidReleaseError: when it would overwrite a published version, or lose what was said of one.
            UsageError: when the repository holds another release, or a tag makes no sense.
        """
        tag = tag_of(manifest, self._wishes)
        tagged, own = remote.tags.get(tag or ""), remote.tags.get(f"v{manifest.release.version}")
        if remote.base is None:
            return Verdict(tag, tagged)
        if tagged not in (None, remote.base) and tag != f"v{manifest.release.version}":
            self._require_held(str(tag), tagged)
        changed = not self._is_held(remote.tree)
        published = self._manifest(remote.tree, remote.base) if changed else None
        if published is not None:
            self._require_same_release(manifest, published)
            is_newer = order(published.release.version) > order(manifest.release.version)
            newer = is_newer and remote.creates is None  # a branch of its own may be older
            if newer and self._wishes.existing != "replace":
                return self._older(manifest, published)
        if own is not None and own != remote.base:
            return self._over_its_tag(manifest, own, tag, tagged)
        if not changed:
            return Verdict(tag, tagged)
        if published is not None and self._is_marked(manifest, published, remote.tree):
            return Verdict(tag if tagged is None else None)
        if own is not None:
            return self._published_already(manifest, f"tag v{manifest.release.version} at {own[:8]}", movable=False)
        return self._changed(manifest, published, tag, tagged)

    def _changed(self, manifest: Manifest, published: Manifest | None, tag: str | None, tagged: str | None) -> Verdict:
        """Judge a release that differs from the head, and whose version has no tag."""
        if tagged is not None:
            self._require_held(str(tag), tagged)
        if published is not None and published.release.version == manifest.release.version:
            return self._published_already(manifest, f"{self._client.target.name}", movable=True, tag=tag)
        return Verdict(tag)

    def _over_its_tag(self, manifest: Manifest, own: str, tag: str | None, tagged: str | None) -> Verdict:
        """Judge a release whose version has a tag that is not the head."""
        tree = self._client.tree(own)
        if self._is_held(tree):
            version = manifest.release.version
            skips = f"version {version} is published already, and edited since" if self._skips else None
            return Verdict(tag, tagged, skips)
        there = self._manifest(tree, own)
        if there is not None and self._is_marked(manifest, there, tree):
            return Verdict()
        return self._published_already(manifest, f"tag v{manifest.release.version} at {own[:8]}", movable=False)

    @property
    def _skips(self) -> bool:
        return self._wishes.existing == "skip"

    def _require_held(self, tag: str, tagged: str) -> None:
        """Refuse a tag that names something else already."""
        if not self._is_held(self._client.tree(tagged)):
            problem = f"{self._client.target.name} has the tag {tag} at {tagged[:8]}, which holds something else"
            advice = "choose another one with --tag, or none with --no-tag"
            raise InvalidReleaseError(f"{problem}, and a tag is never moved: {advice}")

    def _published_already(self, manifest: Manifest, where: str, *, movable: bool, tag: str | None = None) -> Verdict:
        version, wish = manifest.release.version, self._wishes.existing
        said = f"version {version} is published already ({where}), with other content"
        if wish == "skip":
            return Verdict(skips=said)
        if wish == "replace" and movable:
            return Verdict(tag)
        advice = "raise `version` of the manifest, then run saereg build; --existing skip leaves it alone"
        advice += "; --existing replace puts yours in its place" if movable else "; a tag is never moved"
        raise InvalidReleaseError(f"{said}: {advice}")

    def _older(self, manifest: Manifest, published: Manifest) -> Verdict:
        """Judge a release that is older than the one that is there."""
        there, ours = published.release.version, manifest.release.version
        said = f"{self._client.target.name} holds version {there}, which is newer than {ours}"
        if self._wishes.existing == "skip":
            return Verdict(skips=said)
        advice = "publish it to a branch of its own with --branch, or put it back in its place with --existing replace"
        raise InvalidReleaseError(f"{said}: {advice}")

    def _require_same_release(self, manifest: Manifest, published: Manifest) -> None:
        ours, theirs = manifest.release.name, published.release.name
        name = self._client.target.name
        if ours != theirs:
            raise UsageError(f"{name} holds the release {theirs!r}, not {ours!r}; choose another repository")
        if lost := lost_marks(published, manifest):
            commands = "\n".join(f"  {_same_mark(mark)}" for mark in lost)
            what = ", ".join(f"{named(mark)} is {mark.kind}" for mark in lost)
            problem = f"{name} says that {what}, and this manifest does not"
            raise InvalidReleaseError(f"{problem}; set the same in your folder:\n{commands}")

    def _is_held(self, tree: Tree) -> bool:
        return not self._differing(tree)

    def _is_marked(self, manifest: Manifest, published: Manifest, tree: Tree) -> bool:
        """Whether nothing but a signature, or marks of withdrawal and the documents that repeat them, is new."""
        if self._differing(tree) <= {SIGNATURE_FILE}:
            return True
        if published.withdrawn == manifest.withdrawn or not only_marks_differ(published, manifest):
            return False
        repeating = {f"{claim.path}/{ARTIFACT_CARD_FILE}" for claim in manifest.artifacts}
        return self._differing(tree) <= {*DOCUMENTS, *repeating, SIGNATURE_FILE}

    def _differing(self, tree: Tree) -> set[str]:
        """Return the files of the release that a commit does not hold as they are."""
        wanted = self._wanted.items()
        return {
            path for path, (size, sha256) in wanted if not is_same(path, size, str(sha256), tree.get(path), self._ids)
        }

    def _manifest(self, tree: Tree, revision: str) -> Manifest | None:
        """Return the manifest of a commit; None where there is none that can be read."""
        file = tree.get(MANIFEST_FILE)
        if file is None:
            return None
        name = f"{self._client.target.name}/{MANIFEST_FILE}"
        if file.size > jsontext.MAX_BYTES:
            self._refuse_unreadable(f"{name} has {file.size} bytes")
            return None
        raw = self._client.read(MANIFEST_FILE, revision, file.size)
        if not is_content(raw, file):
            raise PublishError(f"{name}: the Hub sends other bytes than its tree says; try again")
        try:
            return Manifest.from_text(jsontext.decode(raw), name)
        except (SaeregError, jsontext.JsonError) as problem:
            self._refuse_unreadable(str(problem))
            return None

    def _refuse_unreadable(self, problem: str) -> None:
        """Refuse to publish over a manifest that cannot be judged, unless that is wished."""
        if self._wishes.existing != "replace":
            advice = "upgrade saereg if a newer one wrote it; --existing replace publishes over it"
            raise InvalidReleaseError(f"what is published cannot be judged: {problem}; {advice}")


def _same_mark(mark: Withdrawal) -> str:
    """Return the command that sets a mark in a folder."""
    words = ["saereg", "yank" if mark.kind == "yanked" else "deprecate", "FOLDER", mark.version]
    words += ["--artifact", mark.artifact] if mark.artifact else []
    words += ["--reason", mark.reason, *(["--successor", mark.successor] if mark.successor else [])]
    return shlex.join(words)
