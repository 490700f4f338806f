"""Marks of withdrawal: versions and artifacts that their author takes back. What was published stays where it is."""

from collections.abc import Iterable, Sequence

from saereg.errors import UnknownNameError, UsageError, did_you_mean
from saereg.registry.files.natural import natural_key
from saereg.schemas.manifest import Manifest
from saereg.schemas.withdrawal import Withdrawal

KINDS = ("deprecated", "yanked")
"""Kinds of marks, the graver one last."""

REFERENCES = ("hf://", "https://")
"""How a successor begins that is in another place."""


def mark_of(manifest: Manifest, version: str, artifact: str | None = None) -> Withdrawal | None:
    """Return the mark of exactly this version or artifact, or None; of several, which only a hand writes, the gravest.

    Args:
        manifest: whose marks.
        version: the version, without a `v`.
        artifact: id of an artifact, or None for the mark of the whole version.
    """
    found = [mark for mark in manifest.withdrawn if (mark.version, mark.artifact) == (version, artifact)]
    return max(found, key=lambda mark: KINDS.index(mark.kind), default=None)


def standing(manifest: Manifest, version: str, artifact: str | None = None) -> Withdrawal | None:
    """Return the mark that readers of a version, or of one artifact of it, must know; None where there is none.

    An artifact is withdrawn with its version, or by itself; the graver mark counts, its own where they are equal.

    Args:
        manifest: the newest one of the repository: marks are made at the head of a branch, tags never move.
        version: the version that is read, with or without a `v`.
        artifact: id of the artifact, or None for the release as a whole.
    """
    if not manifest.withdrawn:
        return None
    number = without_v(version)
    names = (artifact, None) if artifact is not None else (None,)
    found = [mark for name in names if (mark := mark_of(manifest, number, name))]
    return max(found, key=lambda mark: KINDS.index(mark.kind), default=None)


def withdraw(manifest: Manifest, withdrawal: Withdrawal, *, replace: bool = False) -> Manifest:
    """Return a manifest with one more mark.

    The same mark again changes nothing, not even its date. One with other facts takes the place of the one that is
    there; only with `replace` may it be a lesser one.

    Args:
        manifest: the claims.
        withdrawal: the mark. Its version is the manifest's own or another one of its history, which is not known here.
        replace: whether a yanked version or artifact may become a deprecated one.

    Raises:
        UsageError: when the mark would be a lesser one, or its successor is no successor.
        UnknownNameError: when the manifest's own version has no such artifact.
    """
    _require_known(manifest, withdrawal)
    old = mark_of(manifest, withdrawal.version, withdrawal.artifact)
    if old is not None and old.model_copy(update={"date": withdrawal.date}) == withdrawal:
        return manifest
    if old is not None and KINDS.index(old.kind) > KINDS.index(withdrawal.kind) and not replace:
        raise UsageError(
            f"{named(old)} is {old.kind} since {old.date}; --replace makes it {withdrawal.kind}, which says that it is "
            "not wrong after all"
        )
    return _with([*_others(manifest, withdrawal.version, withdrawal.artifact), withdrawal], manifest)


def restore(manifest: Manifest, version: str, artifact: str | None = None, *, kind: str = "yanked") -> Manifest:
    """Return a manifest without the mark of a version or an artifact.

    Raises:
        UsageError: when there is no such mark, or one of the other kind.
    """
    old = mark_of(manifest, version, artifact)
    if old is None:
        marked = ", ".join(map(named, manifest.withdrawn)) or "nothing"
        what = version if artifact is None else f"{artifact} of {version}"
        raise UsageError(f"{what} is not withdrawn; marked {'is' if len(manifest.withdrawn) < 2 else 'are'} {marked}")
    if old.kind != kind:
        verb = {"yanked": "yank", "deprecated": "deprecate"}[old.kind]
        raise UsageError(f"{named(old)} is {old.kind}, not {kind}; saereg {verb} --undo takes that back")
    return _with(_others(manifest, version, artifact), manifest)


def lost_marks(published: Manifest, local: Manifest) -> tuple[Withdrawal, ...]:
    """Return the marks of a published manifest that a local one lacks, or has only as lesser ones."""
    return tuple(mark for mark in published.withdrawn if not _is_kept(mark, local))


def only_marks_differ(published: Manifest, local: Manifest) -> bool:
    """Whether two manifests say the same of everything but of what is withdrawn."""
    return published.model_copy(update={"withdrawn": local.withdrawn}) == local


def named(mark: Withdrawal) -> str:
    """Return what a mark is on, for a sentence: `1.0.0`, or `layer_2/topk of 1.0.0`."""
    return mark.version if mark.artifact is None else f"{mark.artifact} of {mark.version}"


def told(mark: Withdrawal) -> str:
    """Return a mark in one line, for people: what is withdrawn, how, why, and what to use instead."""
    instead = f"; use {mark.successor} instead" if mark.successor else ""
    return f"{named(mark)} is {mark.kind} ({mark.date}): {one_line(mark.reason).rstrip('.')}{instead}"


def one_line(text: str) -> str:
    """Return a text without line ends, tabs and characters that cannot be seen."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def without_v(version: str) -> str:
    """Return a version as manifests have it, of one or of its tag: both are `1.0.0`."""
    return version.removeprefix("v")


def is_version(text: str) -> bool:
    """Whether a successor is a version, with or without a `v`."""
    parts = without_v(text).partition("-")[0].partition("+")[0].split(".")
    return len(parts) == 3 and all(part.isascii() and part.isdigit() for part in parts)


def is_id(successor: str) -> bool:
    """Whether a successor is the id of an artifact of the same release: neither a version nor another place."""
    return not successor.startswith(REFERENCES) and not is_version(successor)


def require_published(version: str, own: str, tags: Iterable[str]) -> None:
    """Refuse a version that was never published: it is not the manifest's own, and no tag is called so.

    Args:
        version: the version.
        own: version of the manifest.
        tags: every tag of the repository.

    Raises:
        UsageError: naming the version that may have been meant.
    """
    published = sorted({own, *(without_v(tag) for tag in tags if tag.startswith("v") and is_version(tag))})
    if version not in published:
        guess = did_you_mean(version, published)
        hint = f"; did you mean {guess}?" if guess else f"; published: {', '.join(sorted(published, key=natural_key))}"
        raise UsageError(f"version {version} was never published (there is no tag v{version}){hint}")


def yanked_successor(manifest: Manifest, mark: Withdrawal) -> Withdrawal | None:
    """Return the mark of what a mark names as its successor, where that is yanked itself; else None."""
    successor = mark.successor or ""
    if is_version(successor):
        found = mark_of(manifest, without_v(successor))
    else:
        found = mark_of(manifest, mark.version, successor) if is_id(successor) else None
    return found if found is not None and found.kind == "yanked" else None


def is_later(version: str, own: str) -> bool:
    """Whether a version comes after another one; marks of a release candidate and the like are not compared."""
    one, other = (tuple(map(int, text.partition("-")[0].partition("+")[0].split("."))) for text in (version, own))
    return one > other


def _is_kept(mark: Withdrawal, local: Manifest) -> bool:
    mine = mark_of(local, mark.version, mark.artifact)
    return mine is not None and KINDS.index(mine.kind) >= KINDS.index(mark.kind)


def _require_known(manifest: Manifest, mark: Withdrawal) -> None:
    """Refuse a mark of what the manifest's own version has not, or with a successor that cannot be one."""
    ids = [artifact.id for artifact in manifest.artifacts]
    own = mark.version == manifest.release.version
    if own and mark.artifact is not None and mark.artifact not in ids:
        raise UnknownNameError("artifact", mark.artifact, ids)
    if mark.successor is None:
        return
    if mark.successor == mark.artifact:
        raise UsageError(f"--successor {mark.successor} is the withdrawn artifact itself")
    if own and is_id(mark.successor) and mark.successor not in ids:
        guess = did_you_mean(mark.successor, ids)
        hint = f"; did you mean {guess}?" if guess else ""
        raise UsageError(
            f"--successor {mark.successor} is neither an artifact of this release, nor a version, nor a reference "
            f"such as hf://org/repo@v1.1.0{hint}"
        )
    if (worse := yanked_successor(manifest, mark)) is not None:
        raise UsageError(f"--successor {mark.successor} cannot be used instead: {told(worse)}")


def _others(manifest: Manifest, version: str, artifact: str | None) -> list[Withdrawal]:
    return [mark for mark in manifest.withdrawn if (mark.version, mark.artifact) != (version, artifact)]


def _with(marks: Sequence[Withdrawal], manifest: Manifest) -> Manifest:
    ordered = sorted(marks, key=lambda mark: (natural_key(mark.version), natural_key(mark.artifact or "")))
    return manifest.model_copy(update={"withdrawn": tuple(ordered)})
